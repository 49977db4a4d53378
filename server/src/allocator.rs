//! The program's allocator: jemalloc, since that of glibc keeps what large documents leave behind
//! (benches/README.md, The allocator).

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Pages that nothing is in go back to the system within about a second, by a thread of jemalloc, also where
/// nobody allocates any more (jemalloc(3), `background_thread`, `dirty_decay_ms`). Read by jemalloc at the start;
/// `_RJEM_MALLOC_CONF` in the environment comes after it.
#[expect(unsafe_code, reason = "jemalloc looks for a symbol of this name")]
// SAFETY: its memory is that of a `const char *` to a text that ends in NUL, and nothing else has this name.
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONFIGURATION: Option<&'static u8> =
    Some(&b"background_thread:true,dirty_decay_ms:500,muzzy_decay_ms:0\0"[0]);
