# Process 1 of a private host: file systems of its own, then nothing but reaping orphans until
# its standard input ends. Arguments: daemons to put over the installed ones of the same name.
set -eu

# Read while /proc still is the outer one: our process id as the test sees it.
read -r outer_pid _ </proc/self/stat

mount --make-rprivate /
mount -t proc proc /proc
for directory in /run /etc/libvirt /var/lib/libvirt /var/log/libvirt /var/cache/libvirt; do
    mkdir -p "$directory"
    mount -t tmpfs -o mode=755 tmpfs "$directory"
done
mkdir /run/libvirt /var/log/libvirt/qemu /var/lib/libvirt/images
for daemon; do
    mount --bind "$daemon" "/usr/sbin/${daemon##*/}"
done

echo "$outer_pid"
# The background job keeps the input; `wait` also collects guests whose parent has gone.
exec 3<&0
cat <&3 >/dev/null &
wait $!
