//! What the client library knows of its connections, in words for operators.

use serde_json::Value;

/// Who does not answer, from the library's JSON (`fdb_database_get_client_status`).
pub(crate) fn of_silence(json: &[u8]) -> String {
    let Ok(status) = serde_json::from_slice::<Value>(json) else {
        return "its client library does not say why".to_owned();
    };
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|it| Some(it.as_str()?.to_owned())).collect()
    };
    let connections = status["Connections"].as_array().into_iter().flatten();
    let is_silent = |connection: &&Value| connection["Status"] != "connected";
    let silent: Vec<_> =
        connections.filter(is_silent).filter_map(|it| Some(it["Address"].as_str()?.to_owned())).collect();
    let coordinators = texts(&status["Coordinators"]);
    match (silent.is_empty(), coordinators.is_empty()) {
        (false, _) => format!("no connection with {}", silent.join(", ")),
        (true, false) => format!("the coordinators are {}", coordinators.join(", ")),
        (true, true) => "it has no connection at all".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_is_named() {
        let json = br#"{"Coordinators":["127.0.0.1:4500"],"Connections":[
            {"Address":"127.0.0.1:4500","Status":"failed"},{"Address":"127.0.0.1:4501","Status":"connected"}]}"#;
        assert_eq!(of_silence(json), "no connection with 127.0.0.1:4500");
        assert_eq!(
            of_silence(br#"{"Coordinators":["127.0.0.1:4500"]}"#),
            "the coordinators are 127.0.0.1:4500"
        );
        assert_eq!(of_silence(b"?"), "its client library does not say why");
    }
}
