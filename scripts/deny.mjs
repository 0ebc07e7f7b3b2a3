/** cargo-deny, in the one version that deny.toml is written for. Node built-ins only. */
import { cargoTool } from './cargo-tool.mjs';

const version = '0.20.2';

/** The program. */
export const denyProgram = (at) => cargoTool('cargo-deny', version, at);
