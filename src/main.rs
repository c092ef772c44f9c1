//! The binary's door: everything it does is in the library's `cli` floor.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    debrouille_appliance::cli::main()
}
