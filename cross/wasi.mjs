// Runs a WASI program under node: node --no-warnings wasi.mjs PROGRAM [ARGUMENT...]
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { WASI } from "node:wasi";
import process from "node:process";

// A WASI program has no working directory: names of files are made absolute.
const [program, ...rest] = process.argv.slice(2).map((text) => (existsSync(text) ? resolve(text) : text));
const wasi = new WASI({ version: "preview1", args: [program, ...rest], env: process.env, preopens: { "/": "/" } });
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exit(wasi.start(instance));
