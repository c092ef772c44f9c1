//! The binary's door: everything it does is in the library's `cli` floor.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Before any thread starts. Refused, names are looked up as the system says: no reason not to serve.
    if let Err(error) = debrouille_appliance::base::nss::pin_host_lookups() {
        eprintln!("nss: {error}");
    }
    debrouille_appliance::cli::main()
}
