//! sluice-proxy; everything is in the library.

fn main() -> std::process::ExitCode {
    service::run::<proxy::Proxy>()
}
