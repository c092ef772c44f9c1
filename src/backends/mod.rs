//! One folder per port, one file or folder per implementation. Only `server` names what is in here.

pub mod appliance;
pub mod certificates;
pub mod collector;
pub mod directory;
pub mod documents;
pub mod installation;
pub mod keys;
pub mod mail;
pub mod notices;
pub mod objects;
pub mod releases;
pub mod web;
