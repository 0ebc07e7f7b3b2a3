//! Links the addon the way Node-API needs it.

fn main() {
    napi_build::setup();
}
