//! A guest's whole operating system: one boot sector that prints numbered lines on COM1.
//!
//! ```text
//! 7c00  cli                       7c27  carry: inc byte [di]
//!       xor ax, ax                      cmp byte [di], '9' + 1
//!       mov ds, ax                      jne counted
//!       mov ss, ax                      mov byte [di], '0'
//!       mov sp, 0x7c00                  dec di
//!       cld                             jmp carry
//! line: mov si, text              counted: test byte [mode], PACED
//! byte: lodsb                           jz unpaced
//!       test al, al                     sti
//!       jz count                        hlt            ; until the timer's next tick
//!       mov bl, al                      cli
//!       mov dx, 0x3fd             unpaced: dec dword [left]
//! full: in al, dx                       jnz line
//!       test al, 0x20                   test byte [mode], POWER_OFF
//!       jz full                         jz halt
//!       mov dl, 0xf8                    mov dx, 0x604  ; ACPI PM1a control of machine "pc"
//!       mov al, bl                      mov ax, 0x2000 ; sleep enable, soft off
//!       out dx, al                      mov cx, TICKS
//!       jmp byte                        sti
//! count: mov di, last_digit       tick: hlt
//!                                       loop tick
//!                                       out dx, ax
//!                                 halt: hlt
//!                                       jmp halt
//!
//! 7c80  left: dd lines            7c90  text: db "name 00000001", 10, 0
//! 7c84  mode: db bits
//! ```

/// The machine code above.
const CODE: [u8; 93] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xfc, 0xbe, 0x90, 0x7c, 0xac, 0x84,
    0xc0, 0x74, 0x11, 0x88, 0xc3, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, 0xb2, 0xf8, 0x88,
    0xd8, 0xee, 0xeb, 0xea, 0xbf, 0x9c, 0x7c, 0xfe, 0x05, 0x80, 0x3d, 0x3a, 0x75, 0x06, 0xc6, 0x05,
    0x30, 0x4f, 0xeb, 0xf3, 0xf6, 0x06, 0x84, 0x7c, 0x01, 0x74, 0x03, 0xfb, 0xf4, 0xfa, 0x66, 0xff,
    0x0e, 0x80, 0x7c, 0x75, 0xc6, 0xf6, 0x06, 0x84, 0x7c, 0x02, 0x74, 0x0e, 0xba, 0x04, 0x06, 0xb8,
    0x00, 0x20, 0xb9, TICKS, 0x00, 0xfb, 0xf4, 0xe2, 0xfd, 0xef, 0xf4, 0xeb, 0xfd,
];
/// Ticks of the timer, 18 a second, before the power goes off: libvirtd fails to start a guest that
/// ends while it is being started.
const TICKS: u8 = 27;
const LEFT_OFFSET: usize = 0x80;
const MODE_OFFSET: usize = 0x84;
const TEXT_OFFSET: usize = 0x90;
const MODE_PACED: u8 = 1;
const MODE_POWER_OFF: u8 = 2;
/// The firmware boots no virtio disk of less than a cylinder (516,096 bytes).
const IMAGE_BYTES: usize = 1 << 20;
const SIGNATURE_OFFSET: usize = 510;
/// What the firmware looks for at the end of the sector.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// What a guest prints: lines of [`BootSector::LINE_BYTES`] bytes like `alfa 00000001`.
#[derive(Clone, Copy, Debug)]
pub struct BootSector {
    word: [u8; 4],
    lines: u32,
    mode: u8,
}

impl BootSector {
    /// Length of a line with its newline.
    pub const LINE_BYTES: usize = 14;

    /// Prints `lines` lines as fast as it can, waits a moment, then powers the machine
    /// off.
    pub fn finite(word: [u8; 4], lines: u32) -> Self {
        Self { word, lines, mode: MODE_POWER_OFF }
    }

    /// Prints lines as fast as it can, without end.
    pub fn flooding(word: [u8; 4]) -> Self {
        Self { word, lines: u32::MAX, mode: 0 }
    }

    /// Prints 18 lines a second, without end.
    pub fn ticking(word: [u8; 4]) -> Self {
        Self { word, lines: u32::MAX, mode: MODE_PACED }
    }

    /// The word each line begins with.
    pub fn word(&self) -> [u8; 4] {
        self.word
    }

    /// The disk image.
    pub fn image(&self) -> Vec<u8> {
        let mut image = vec![0; IMAGE_BYTES];
        image[..CODE.len()].copy_from_slice(&CODE);
        image[LEFT_OFFSET..][..4].copy_from_slice(&self.lines.to_le_bytes());
        image[MODE_OFFSET] = self.mode;
        image[TEXT_OFFSET..][..4].copy_from_slice(&self.word);
        image[TEXT_OFFSET + 4..][..10].copy_from_slice(b" 00000001\n");
        image[SIGNATURE_OFFSET..][..2].copy_from_slice(&SIGNATURE);
        image
    }
}
