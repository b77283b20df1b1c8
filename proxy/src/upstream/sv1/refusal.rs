//! A pool's error → an error code of SV2, as the rest of the proxy has them.

use super::said::Answer;
use serde_json::Value;

/// Longest text of a pool that is passed on, in characters.
const MAX_TEXT: usize = 64;

/// What the pool says against a share; `None` if it took it.
///
/// `result: true` alone means taken. Errors come as `[code, text, …]`, `{"code", "message"}`, a text, ckpool's `reject-reason`, or
/// not at all beside `result: false`.
pub fn of_share(answer: &Answer) -> Option<String> {
    if answer.result == true {
        return None;
    }
    let (code, text) = (code(&answer.error), text(answer));
    Some(by_number(code).or_else(|| by_text(&text)).map_or(text, str::to_owned))
}

/// Why a login or a subscription was refused, in the pool's words.
pub fn words(answer: &Answer) -> String {
    text(answer)
}

fn code(error: &Value) -> Option<i64> {
    error.get(0).or_else(|| error.get("code")).and_then(Value::as_i64)
}

fn text(answer: &Answer) -> String {
    let error = &answer.error;
    let in_error = error.get(1).or_else(|| error.get("message")).unwrap_or(error).as_str();
    let text = in_error.or(answer.reason.as_deref()).unwrap_or("refused without a reason");
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

fn by_number(code: Option<i64>) -> Option<&'static str> {
    match code? {
        21 => Some("stale-share"),
        22 => Some("duplicate-share"),
        23 => Some("difficulty-too-low"),
        _ => None,
    }
}

/// Some pools have codes of their own, or none.
fn by_text(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    let has = |part: &str| text.contains(part);
    match () {
        () if has("stale") || has("jobid") || has("job not found") || has("job-not-found") => {
            Some("stale-share")
        }
        () if has("duplicate") => Some("duplicate-share"),
        () if has("above target") || has("low diff") || has("high-hash") => Some("difficulty-too-low"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(result: Value, error: Value, reason: Option<&str>) -> Option<String> {
        of_share(&Answer { result, error, reason: reason.map(str::to_owned) })
    }

    #[test]
    fn pools_say_no_in_many_ways() {
        assert_eq!(refusal(json!(true), json!(null), None), None);
        for (error, reason, code) in [
            (json!([21, "Job not found", null]), None, "stale-share"),
            (json!([22, "Duplicate share", null]), None, "duplicate-share"),
            (json!({"code": 23, "message": "Low difficulty share"}), None, "difficulty-too-low"),
            (json!(null), Some("Stale"), "stale-share"),
            (json!(null), Some("Above target"), "difficulty-too-low"),
            (json!("Invalid JobID"), None, "stale-share"),
            (json!([20, "Ntime out of range", null]), None, "Ntime out of range"),
            (json!(null), None, "refused without a reason"),
        ] {
            assert_eq!(refusal(json!(false), error, reason).as_deref(), Some(code));
        }
        assert_eq!(refusal(json!(null), json!("x".repeat(999)), None).map(|text| text.len()), Some(MAX_TEXT));
    }
}
