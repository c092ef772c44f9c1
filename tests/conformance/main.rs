//! One suite of behaviour, with answers from a real mongod at run time: the language first, then each engine.

mod acme;
mod corpus;
mod documents;
mod embedded;
mod folder;
mod generate;
mod geo;
mod language;
mod mongod;
mod objects;
mod proxy;
mod s3;
