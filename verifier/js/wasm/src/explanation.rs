//! The signature debugger. JavaScript writes the request into one piece of memory of the length it asks for and reads the answer, JSON, from another.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

use stormhook_verifier::{Explanation, SchemeReport, StepOutcome, Tolerance, explain_with};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::shared::Shared;

static INPUT: Shared<Vec<u8>> = Shared::new(Vec::new());
static OUTPUT: Shared<String> = Shared::new(String::new());

/// Returns room for a request.
#[wasm_bindgen]
pub fn input_at(bytes: usize) -> *mut u8 {
    INPUT.with(|input| {
        input.clear();
        input.resize(bytes, 0);
        input.as_mut_ptr()
    })
}

/// Returns where the answer is.
#[wasm_bindgen]
pub fn output_at() -> *const u8 {
    OUTPUT.with(|output| output.as_ptr())
}

/// Explains the request that stands at the input: secret, name of the StormCom header, then names and values by turns, then the body,
/// each with its length in four bytes, the lowest first. Gives the length of the answer.
#[wasm_bindgen]
pub fn explain(now_s: f64, tolerance_s: f64) -> usize {
    INPUT.with(|input| {
        let mut rest = input.as_slice();
        let mut parts = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let (part, tail) = tail.split_at_checked(length).unwrap_or((tail, &[]));
            parts.push(part);
            rest = tail;
        }
        let text = |bytes| core::str::from_utf8(bytes).unwrap_or_default();
        let [secret, header, pairs @ .., body] = parts.as_slice() else {
            return 0;
        };
        let headers: Vec<(&str, &[u8])> = pairs
            .chunks_exact(2)
            .filter_map(|pair| Some((text(pair.first()?), *pair.get(1)?)))
            .collect();
        let tolerance = if tolerance_s < 0.0 {
            Tolerance::Unchecked
        } else {
            Tolerance::Seconds(tolerance_s as u64)
        };
        let explanation = explain_with(
            &headers,
            body,
            text(secret),
            now_s as u64,
            tolerance,
            text(header),
        );
        OUTPUT.with(|output| {
            output.clear();
            write_json(output, &explanation);
            output.len()
        })
    })
}

fn write_json(out: &mut String, explanation: &Explanation) {
    out.push_str("{\"standard\":");
    write_report(out, &explanation.standard);
    out.push_str(",\"stormcom\":");
    write_report(out, &explanation.stormcom);
    write_member(
        out,
        ",\"contentDigest\":",
        explanation.content_digest.as_str(),
    );
    out.push_str(",\"findings\":[");
    for (at, finding) in explanation.findings.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        write_member(out, "{\"code\":", finding.code());
        let mut message = String::new();
        let _ = write!(message, "{finding}");
        write_member(out, ",\"message\":", &message);
        out.push('}');
    }
    out.push_str("]}");
}

fn write_report(out: &mut String, report: &SchemeReport) {
    let code = report.result.map_or_else(|error| error.code(), |()| "ok");
    write_member(out, "{\"code\":", code);
    out.push_str(",\"steps\":[");
    for (at, (step, outcome)) in report.steps().enumerate() {
        let outcome = match outcome {
            StepOutcome::Passed => "passed",
            StepOutcome::Failed(_) => "failed",
            StepOutcome::NotReached => "not_reached",
        };
        out.push_str(if at == 0 { "" } else { "," });
        write_member(out, "{\"step\":", step.as_str());
        write_member(out, ",\"outcome\":", outcome);
        out.push('}');
    }
    out.push_str("]}");
}

/// Writes a member's name, which is already JSON, and its value as a JSON string (RFC 8259, section 7).
fn write_member(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            // Never in a message: names of headers have been escaped already.
            '\0'..='\x1f' => out.push(' '),
            _ => out.push(character),
        }
    }
    out.push('"');
}
