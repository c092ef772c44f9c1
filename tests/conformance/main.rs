//! One suite of behaviour, with answers from a real mongod at run time: the language first, then each engine.

mod corpus;
mod generate;
mod language;
mod mongod;
