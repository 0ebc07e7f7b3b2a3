//! The engine for Node.js: a class per thing, every long call a promise.
//!
//! Lives here: conversion of arguments, results and errors, a bounded pool of named threads on which calls run, and
//! the way of log records to JavaScript. Never here: anything that the engine doesn't offer, or a call that blocks
//! the JavaScript thread. Data flows from JavaScript through the pool into `engine`, and back as promises.

mod call;
mod failure;
mod files;
mod fsck;
mod gc;
mod log;
mod memory;
mod notify;
mod options;
mod peer;
mod pool;
mod scrub;
mod signal;
mod snapshots;
mod stats;
mod streams;
mod transfer;
mod usage;
mod vault;
mod volume;
