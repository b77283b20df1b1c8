//! What a node answers when it is asked for a template. Whatever it says, what is taken for a template makes valid
//! work: it can be fitted to any client, and every message of it fits a frame.

use distribution::{BlockTemplate, Constraints, Parts, Retention, Server};
use link::Frame;
use std::sync::Arc;
use std::time::Instant;

/// The answer of `getblocktemplate`, as JSON.
pub fn gbt(data: &[u8]) {
    if let Ok(parts) = template_provider::gbt::decode(data) {
        serve(parts);
    }
}

/// Messages of the mining interface.
pub fn ipc(data: &[u8]) {
    if let Ok(parts) = template_provider::ipc::answer::decode(data) {
        serve(parts);
    }
}

fn serve(parts: Parts) {
    let template = Arc::new(BlockTemplate::new(1 << 32, parts));
    for (max_additional_size, max_additional_sigops) in [(0, 0), (100, 4), (900_000, 0)] {
        let constraints = Constraints { max_additional_size, max_additional_sigops };
        let mut client = distribution::Client::new();
        client.constraints(constraints).unwrap();
        let mut server = Server::new(Retention::default(), Some(Arc::clone(&template)));
        let said: Option<Frame> = client.poll_send();
        if server.handle(Instant::now(), &mut said.unwrap().received()).is_err() {
            continue;
        }
        while let Ok(Some(frame)) = server.poll_send() {
            client.handle(&mut frame.received()).expect("our client understands our server");
        }
    }
}
