//! What a 64-bit little-endian ELF file requires of the system that loads it (System V gABI, chapters 4 and 5).

/// Types of program headers.
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PT_GNU_RELRO: u32 = 0x6474_e552;
/// An entry of the dynamic section that names a shared library.
const DT_NEEDED: u64 = 1;
/// The section that holds the names of functions, until it is stripped.
const SHT_SYMTAB: u32 = 2;
/// A file that may be loaded anywhere.
const ET_DYN: u16 = 3;

/// The properties that the headers state.
#[derive(Debug)]
pub struct Elf {
    /// The program that loads it, such as `/lib64/ld-linux-x86-64.so.2`.
    pub interpreter: Option<String>,
    /// How many shared libraries it needs.
    pub libraries: usize,
    /// Whether the system may choose its address in memory (ASLR).
    pub relocatable: bool,
    /// Whether the stack is executable.
    pub executable_stack: bool,
    /// Whether tables of addresses are read-only after loading (RELRO).
    pub read_only_relocations: bool,
    /// Whether the names of functions were removed.
    pub stripped: bool,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Elf {
    /// Reads the headers of a file.
    pub fn read(bytes: &[u8]) -> Elf {
        assert_eq!(bytes[..6], *b"\x7fELF\x02\x01", "64 bits, little-endian");
        let mut elf = Elf {
            interpreter: None,
            libraries: 0,
            relocatable: u16_at(bytes, 16) == ET_DYN,
            executable_stack: true,
            read_only_relocations: false,
            stripped: true,
        };
        let (programs, sections) = (u64_at(bytes, 32) as usize, u64_at(bytes, 40) as usize);
        for index in 0..usize::from(u16_at(bytes, 56)) {
            let header = &bytes[programs + index * usize::from(u16_at(bytes, 54))..];
            let (offset, size) = (u64_at(header, 8) as usize, u64_at(header, 32) as usize);
            match u32_at(header, 0) {
                PT_INTERP => {
                    let name = &bytes[offset..offset + size - 1];
                    elf.interpreter = Some(String::from_utf8(name.to_vec()).unwrap());
                }
                PT_DYNAMIC => {
                    let entries = bytes[offset..offset + size].chunks_exact(16);
                    elf.libraries += entries
                        .filter(|entry| u64_at(entry, 0) == DT_NEEDED)
                        .count();
                }
                PT_GNU_STACK => elf.executable_stack = u32_at(header, 4) & 1 != 0,
                PT_GNU_RELRO => elf.read_only_relocations = true,
                _ => {}
            }
        }
        for index in 0..usize::from(u16_at(bytes, 60)) {
            let header = &bytes[sections + index * usize::from(u16_at(bytes, 58))..];
            elf.stripped &= u32_at(header, 4) != SHT_SYMTAB;
        }
        elf
    }
}
