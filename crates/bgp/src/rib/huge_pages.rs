//! Memory of tables on huge pages.
//!
//! A table is looked up all over its memory. On pages of 4 KiB nearly every lookup of a large one misses the processor's
//! cache of page addresses, and each new page is a fault; on pages of 2 MiB neither matters. (Measured with a million
//! prefixes: docs/performance.md.)

use std::alloc::Layout;
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Global};

/// The size of a huge page on the processors that we know.
const HUGE: usize = 2 << 20;

/// Allocates as usual, and asks the kernel for huge pages under what is large.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HugePages;

// SAFETY: all memory is the global allocator's, which keeps what the trait asks for; that the kernel is asked for other
// pages under it changes neither its address nor its content.
unsafe impl Allocator for HugePages {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Global.allocate(layout).inspect(|memory| advise(*memory))
    }

    unsafe fn deallocate(&self, memory: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller has it from `allocate`, and so from there.
        unsafe { Global.deallocate(memory, layout) }
    }

    unsafe fn grow(&self, memory: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: as above; the layouts are the caller's.
        unsafe { Global.grow(memory, old, new) }.inspect(|memory| advise(*memory))
    }
}

fn advise(memory: NonNull<[u8]>) {
    let start = memory.cast::<u8>().as_ptr();
    let first = start.align_offset(HUGE);
    let Some(whole) = memory.len().checked_sub(first).map(|left| left - left % HUGE).filter(|whole| *whole > 0) else {
        return;
    };
    // SAFETY: the range is within the allocation. A kernel that has no huge pages says so, and nothing is lost.
    unsafe { libc::madvise(start.add(first).cast(), whole, libc::MADV_HUGEPAGE) };
}
