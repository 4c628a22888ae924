//! `stormhook-verifier-pack IN.wasm OUT-FOLDER`: what the wasm-bindgen program does, from the version that `Cargo.lock` pins. The glue it
//! writes is not used: with numbers alone there is nothing to glue.

use std::process::ExitCode;

use walrus::Module;
use wasm_bindgen_cli_support::Bindgen;

/// What makes wasm-bindgen add a table for objects, and with it an import, although no object is ever passed.
const FOR_OBJECTS: &str = "__externref";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, folder] = arguments.as_slice() else {
        return fail("usage: stormhook-verifier-pack IN.wasm OUT-FOLDER");
    };
    let packed = Module::from_file(input).and_then(|mut module| {
        module.customs.remove_raw("target_features");
        let objects: Vec<_> = module
            .exports
            .iter()
            .filter(|export| export.name.starts_with(FOR_OBJECTS))
            .map(walrus::Export::id)
            .collect();
        for export in objects {
            module.exports.delete(export);
        }
        let mut bindgen = Bindgen::new();
        bindgen.input_module("core", module).web(true)?;
        bindgen.typescript(false).remove_name_section(true);
        bindgen.remove_producers_section(true).generate(folder)
    });
    match packed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{input}: {error:#}")),
    }
}

#[expect(clippy::print_stderr, reason = "the program's only way to say it")]
fn fail(message: &str) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
