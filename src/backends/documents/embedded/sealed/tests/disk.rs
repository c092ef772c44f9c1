//! A disk in memory that loses, keeps and tears what was not synced, and fails on command.

use super::super::disk::Disk;
use std::{
    io,
    sync::{Arc, Mutex},
};

const SECTOR: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    now: Vec<u8>,
    since: Vec<Operation>,
    /// Operations left before every one fails; `None` is never.
    left: Option<u64>,
    done: u64,
    syncs: u64,
}

#[derive(Debug, Clone)]
enum Operation {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.done += 1;
        match &mut self.left {
            Some(0) => Err(io::Error::from_raw_os_error(5)),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl MemoryDisk {
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { synced: bytes.clone(), now: bytes, ..State::default() })))
    }

    /// The `left`-th change or sync from now, and all later ones, fail.
    pub fn fail_after(&self, left: u64) {
        self.0.lock().unwrap().left = Some(left);
    }

    pub fn operations(&self) -> u64 {
        self.0.lock().unwrap().done
    }

    pub fn syncs(&self) -> u64 {
        self.0.lock().unwrap().syncs
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().now.clone()
    }

    /// What a power cut leaves: all that was synced, and of each sector written since, what `keep` says.
    pub fn crashed(&self, mut keep: impl FnMut() -> bool) -> Self {
        let state = self.0.lock().unwrap();
        let mut bytes = state.synced.clone();
        for operation in &state.since {
            match operation {
                Operation::Length(length) => {
                    if keep() {
                        bytes.resize(*length, 0);
                    }
                }
                Operation::Write(offset, written) => {
                    for (number, sector) in written.chunks(SECTOR).enumerate() {
                        let at = offset + number * SECTOR;
                        if keep() {
                            if bytes.len() < at + sector.len() {
                                bytes.resize(at + sector.len(), 0);
                            }
                            bytes[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        Self::holding(bytes)
    }
}

impl Disk for MemoryDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap().min(state.now.len());
        let end = (start + bytes.len()).min(state.now.len());
        bytes.fill(0);
        bytes[..end - start].copy_from_slice(&state.now[start..end]);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let bytes = bytes.to_vec();
        // A write that fails may still have happened, in part or whole.
        let outcome = state.step();
        if state.now.len() < offset + bytes.len() {
            state.now.resize(offset + bytes.len(), 0);
        }
        state.now[offset..offset + bytes.len()].copy_from_slice(&bytes);
        state.since.push(Operation::Write(offset, bytes));
        outcome
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let outcome = state.step();
        let length = usize::try_from(length).unwrap();
        state.now.resize(length, 0);
        state.since.push(Operation::Length(length));
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.step()?;
        for operation in std::mem::take(&mut state.since) {
            match operation {
                Operation::Length(length) => state.synced.resize(length, 0),
                Operation::Write(offset, written) => {
                    let end = offset + written.len();
                    if state.synced.len() < end {
                        state.synced.resize(end, 0);
                    }
                    state.synced[offset..end].copy_from_slice(&written);
                }
            }
        }
        state.syncs += 1;
        Ok(())
    }
}
