//! A configuration file for each program: understood or refused in words, and never a secret in them.

use channel_hub::Hub;
use proxy::Proxy;
use service::{Program, config_from_text};
use template_provider::TemplateProvider;

/// The file's text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check::<Hub>(text);
    check::<Proxy>(text);
    check::<TemplateProvider>(text);
}

fn check<P: Program>(text: &str) {
    if let Err(refusal) = config_from_text::<P>(text) {
        assert!(!refusal.to_string().is_empty());
    }
}
