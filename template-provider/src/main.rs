//! sluice-tp.

fn main() -> std::process::ExitCode {
    service::run::<template_provider::TemplateProvider>()
}
