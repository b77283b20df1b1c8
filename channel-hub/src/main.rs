//! The `sluice-hub` binary.

fn main() -> std::process::ExitCode {
    service::run::<channel_hub::Hub>()
}
