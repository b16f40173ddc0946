//! A guest's description.

use super::BootSector;

/// QEMU as Debian installs it.
const EMULATOR: &str = "/usr/bin/qemu-system-x86_64";

/// A guest of one boot disk, which it only reads and nobody locks.
#[derive(Clone, Debug)]
pub struct Guest {
    name: String,
    boot: BootSector,
    directory: String,
    emulator: String,
    devices: String,
    qemu_args: String,
}

/// How a guest shares a disk with others, in libvirt's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody else may have it.
    Exclusive,
    /// Others may have it as well if they say so too.
    Shareable,
    /// Only read, hence not locked at all.
    Readonly,
}

/// A data disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// The image.
    pub source: &'a str,
    /// `raw` or `qcow2`.
    pub format: &'a str,
    /// Who else may have it.
    pub sharing: Sharing,
}

impl<'a> Disk<'a> {
    /// A raw disk for one guest alone.
    pub fn exclusive(source: &'a str) -> Self {
        Self { source, format: "raw", sharing: Sharing::Exclusive }
    }

    /// The same disk, shared in another way.
    pub fn sharing(self, sharing: Sharing) -> Self {
        Self { sharing, ..self }
    }

    /// Its element of a guest's description. A SCSI disk comes and goes without the guest's help.
    pub fn xml(&self) -> String {
        let sharing = match self.sharing {
            Sharing::Exclusive => "",
            Sharing::Shareable => "<shareable/>",
            Sharing::Readonly => "<readonly/>",
        };
        let Self { source, format, .. } = self;
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='{format}'/>\
             <source file='{source}'/><target dev='sdb' bus='scsi'/>{sharing}</disk>\n"
        )
    }
}

impl Guest {
    /// A guest of the host's own libvirt, without a serial port.
    pub fn new(name: &str, boot: BootSector) -> Self {
        Self {
            name: name.to_owned(),
            boot,
            directory: "/var/lib/libvirt/images".to_owned(),
            emulator: EMULATOR.to_owned(),
            devices: String::new(),
            qemu_args: String::new(),
        }
    }

    /// Keeps the boot disk in `directory`.
    #[must_use]
    pub fn stored_in(mut self, directory: &str) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// A serial port that writes to `path`.
    #[must_use]
    pub fn serial_to_file(self, path: &str) -> Self {
        self.device(&format!("<serial type='file'><source path='{path}'/></serial>\n"))
    }

    /// A serial port that is a terminal and whose output is also kept in `path`; `append` says
    /// whether earlier runs' output stays.
    #[must_use]
    pub fn terminal_logged_to(self, path: &str, append: bool) -> Self {
        let append = if append { "on" } else { "off" };
        self.device(&format!(
            "<serial type='pty'><log file='{path}' append='{append}'/></serial>\n"
        ))
    }

    /// One more disk.
    #[must_use]
    pub fn disk(self, disk: Disk<'_>) -> Self {
        self.device(&disk.xml())
    }

    /// Runs under another program than QEMU itself.
    #[must_use]
    pub fn emulator(mut self, path: &str) -> Self {
        path.clone_into(&mut self.emulator);
        self
    }

    /// Gives QEMU an argument that libvirt knows nothing of.
    #[must_use]
    pub fn qemu_arg(mut self, arg: &str) -> Self {
        self.qemu_args.push_str(&format!("<qemu:arg value='{arg}'/>\n"));
        self
    }

    fn device(mut self, xml: &str) -> Self {
        self.devices.push_str(xml);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it boots.
    pub fn boot(&self) -> &BootSector {
        &self.boot
    }

    /// Path of its boot disk.
    pub fn boot_image(&self) -> String {
        format!("{}/{}.img", self.directory, self.name)
    }

    /// Path of QEMU's own log, when the host's own libvirt runs the guest.
    pub fn qemu_log(&self) -> String {
        format!("/var/log/libvirt/qemu/{}.log", self.name)
    }

    /// Path of QEMU's pid file, when the host's own libvirt runs the guest.
    pub fn pid_file(&self) -> String {
        format!("/run/libvirt/qemu/{}.pid", self.name)
    }

    /// Its description for libvirt.
    pub fn xml(&self) -> String {
        let Self { name, emulator, devices, qemu_args, .. } = self;
        let boot_image = self.boot_image();
        format!(
            "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{name}</name>
<memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<features><acpi/></features>
<devices>
<emulator>{emulator}</emulator>
<disk type='file' device='disk'><driver name='qemu' type='raw'/>
<source file='{boot_image}'/><target dev='vda' bus='virtio'/><readonly/></disk>
<controller type='usb' model='none'/>
<controller type='scsi' model='virtio-scsi'/>
<memballoon model='none'/>
<video><model type='none'/></video>
{devices}</devices>
<qemu:commandline>
{qemu_args}</qemu:commandline>
</domain>
"
        )
    }
}
