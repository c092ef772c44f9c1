//! Documents, filters and updates from a seed: few names, few values, odd shapes, so that they meet.

use bson::{Bson, Document, RawDocumentBuf, doc, oid::ObjectId, spec::BinarySubtype};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Generator(u64);

impl Generator {
    /// From `CONFORMANCE_SEED`, so that a failure or a longer search can be repeated; else always the same.
    pub fn new() -> Self {
        let seed = std::env::var("CONFORMANCE_SEED").map(|text| text.parse().expect("CONFORMANCE_SEED is a number"));
        Self(seed.unwrap_or(20_261_122))
    }

    /// How many of each to make: `CONFORMANCE_ROUNDS` times the usual.
    pub fn rounds(count: usize) -> usize {
        let rounds = std::env::var("CONFORMANCE_ROUNDS").map(|text| text.parse().expect("a number"));
        count * rounds.unwrap_or(1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn name(&mut self) -> &'static str {
        const NAMES: [&str; 8] = ["a", "a", "a", "b", "b", "c", "0", "1"];
        NAMES[self.below(NAMES.len())]
    }

    pub fn path(&mut self) -> String {
        let depth = *self.pick(&[1, 1, 1, 2, 2, 3]);
        // A path begins with a plain name, as documents do.
        let mut parts = vec![*self.pick(&["a", "a", "b", "c"])];
        while parts.len() < depth {
            parts.push(self.name());
        }
        parts.join(".")
    }

    pub fn number(&mut self) -> Bson {
        match self.below(12) {
            0..=3 => Bson::Int32(*self.pick(&[0, 1, 2, 3, -1, i32::MAX, i32::MIN])),
            4..=5 => Bson::Int64(*self.pick(&[0, 1, 2, -1, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN])),
            6..=8 => {
                let numbers =
                    [0.0, -0.0, 1.0, 2.0, 1.5, 0.1, -1.0, 9_007_199_254_740_992.0, 9.3e18, f64::INFINITY, f64::NAN];
                Bson::Double(*self.pick(&numbers))
            }
            _ => {
                let numbers = [
                    "0",
                    "-0",
                    "1",
                    "1.0",
                    "2",
                    "1.5",
                    "0.1",
                    "-1",
                    "9007199254740993",
                    "1E+6000",
                    "1E-6000",
                    "9.999999999999999999999999999999999E+33",
                    "NaN",
                    "Infinity",
                    "-Infinity",
                ];
                Bson::Decimal128(self.pick(&numbers).parse().expect("a decimal"))
            }
        }
    }

    pub fn scalar(&mut self) -> Bson {
        match self.below(26) {
            0..=7 => self.number(),
            8..=12 => Bson::String((*self.pick(&["", "a", "b", "ab", "A", "é", "a\nb", "0"])).into()),
            13..=15 => Bson::Null,
            16 => Bson::Undefined,
            17..=18 => Bson::Boolean(self.one_in(2)),
            19 => Bson::DateTime(bson::DateTime::from_millis(*self.pick(&[-1, 0, 1]))),
            20 => Bson::ObjectId(ObjectId::from_bytes([*self.pick(&[0, 1, 255]); 12])),
            21 => {
                let subtype = *self.pick(&[BinarySubtype::Generic, BinarySubtype::Uuid, BinarySubtype::BinaryOld]);
                let length = if subtype == BinarySubtype::Uuid { 16 } else { self.below(3) };
                Bson::Binary(bson::Binary { subtype, bytes: vec![*self.pick(&[0, 1, 200]); length] })
            }
            22 => {
                Bson::Timestamp(bson::Timestamp { time: *self.pick(&[1, 2, u32::MAX]), increment: *self.pick(&[0, 1]) })
            }
            23 => self.pick(&[Bson::MinKey, Bson::MaxKey]).clone(),
            24 => self.pick(&[Bson::JavaScriptCode("f".into()), Bson::Symbol("a".into())]).clone(),
            _ => self.regex(),
        }
    }

    pub fn regex(&mut self) -> Bson {
        let pattern = *self.pick(&["a", "^a", "b$", "A", "a.b", "^b$", "[ab]+"]);
        let options = *self.pick(&["", "", "i", "m", "s", "im"]);
        Bson::RegularExpression(bson::Regex {
            pattern: pattern.try_into().expect("no NUL"),
            options: options.try_into().expect("no NUL"),
        })
    }

    pub fn value(&mut self, depth: usize) -> Bson {
        match self.below(10) {
            0..=2 if depth > 0 => Bson::Array((0..self.below(4)).map(|_| self.value(depth - 1)).collect()),
            3..=4 if depth > 0 => Bson::Document(self.fields(depth - 1)),
            _ => self.scalar(),
        }
    }

    fn fields(&mut self, depth: usize) -> Document {
        (0..self.below(4)).map(|_| (self.name().to_owned(), self.value(depth))).collect()
    }

    /// A document of the corpus: fields `a`, `b`, `c`, each perhaps absent.
    pub fn document(&mut self, id: String) -> RawDocumentBuf {
        let mut document = doc! { "_id": id };
        for name in ["a", "b", "c"] {
            if !self.one_in(3) {
                document.insert(name, self.value(3));
            }
        }
        raw(&document)
    }

    pub fn documents(&mut self, count: usize) -> Vec<RawDocumentBuf> {
        (0..count).map(|place| self.document(format!("g{place:05}"))).collect()
    }

    /// A filter: mostly sound, now and then with an operand that is to be refused.
    pub fn filter(&mut self, depth: usize) -> Document {
        let mut filter = Document::new();
        for _ in 0..*self.pick(&[1, 1, 1, 2]) {
            if depth > 0 && self.one_in(4) {
                let branches: Vec<Bson> =
                    (0..1 + self.below(3)).map(|_| Bson::Document(self.filter(depth - 1))).collect();
                filter.insert(*self.pick(&["$and", "$or", "$nor"]), branches);
            } else {
                filter.insert(self.path(), self.condition(depth));
            }
        }
        filter
    }

    fn condition(&mut self, depth: usize) -> Bson {
        if self.one_in(4) {
            return self.value(2);
        }
        let mut tests = Document::new();
        for _ in 0..*self.pick(&[1, 1, 1, 2]) {
            self.test(&mut tests, depth);
        }
        Bson::Document(tests)
    }

    fn test(&mut self, tests: &mut Document, depth: usize) {
        match self.below(16) {
            0..=6 => {
                let operator = *self.pick(&["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]);
                tests.insert(operator, self.value(2));
            }
            7..=8 => {
                let values: Vec<Bson> = (0..self.below(4)).map(|_| self.value(1)).collect();
                tests.insert(*self.pick(&["$in", "$nin"]), values);
            }
            9 => {
                let flag = self.pick(&[Bson::Boolean(true), Bson::Boolean(false), Bson::Int32(0), Bson::Null]).clone();
                tests.insert("$exists", flag);
            }
            10 => {
                let kinds =
                    ["double", "string", "object", "array", "null", "number", "int", "undefined", "minKey", "wrong"];
                let kind = match self.below(3) {
                    0 => Bson::Int32(*self.pick(&[1, 2, 3, 4, 6, 10, 16, 18, 19, -1, 127, 0, 99])),
                    1 => Bson::Array(vec![(*self.pick(&kinds)).into(), (*self.pick(&kinds)).into()]),
                    _ => (*self.pick(&kinds)).into(),
                };
                tests.insert("$type", kind);
            }
            11 => {
                let size = if self.one_in(4) { self.scalar() } else { Bson::Int32(self.below(4) as i32) };
                tests.insert("$size", size);
            }
            12 => {
                let wanted: Vec<Bson> = (0..self.below(3))
                    .map(|_| if self.one_in(5) { bson::bson!({ "$elemMatch": self.filter(0) }) } else { self.value(1) })
                    .collect();
                tests.insert("$all", wanted);
            }
            13 if depth > 0 => {
                let inner = if self.one_in(2) { self.filter(depth - 1) } else { self.tests(depth - 1) };
                tests.insert("$elemMatch", inner);
            }
            14 if depth > 0 => {
                let inner = if self.one_in(5) { self.regex() } else { Bson::Document(self.tests(depth - 1)) };
                tests.insert("$not", inner);
            }
            _ => {
                tests.insert(
                    "$regex",
                    if self.one_in(2) { self.regex() } else { (*self.pick(&["a", "^a", "B"])).into() },
                );
                if self.one_in(2) {
                    tests.insert("$options", *self.pick(&["", "i", "ms", "q"]));
                }
            }
        }
    }

    fn tests(&mut self, depth: usize) -> Document {
        let mut tests = Document::new();
        for _ in 0..*self.pick(&[0, 1, 1, 1, 2]) {
            self.test(&mut tests, depth);
        }
        tests
    }

    pub fn sort(&mut self) -> Document {
        let mut sort = Document::new();
        for _ in 0..*self.pick(&[1, 1, 2, 3]) {
            sort.insert(self.path(), *self.pick(&[1, -1]));
        }
        sort
    }

    pub fn projection(&mut self) -> Document {
        let (shown, mut projection) = (self.below(2) as i32, Document::new());
        for _ in 0..1 + self.below(3) {
            let shown = if self.one_in(12) { 1 - shown } else { shown };
            projection.insert(if self.one_in(6) { "_id".to_owned() } else { self.path() }, shown);
        }
        projection
    }

    /// Operators on paths: now and then in conflict, or with an operand that is to be refused.
    pub fn update(&mut self) -> Document {
        let mut update = Document::new();
        for _ in 0..*self.pick(&[1, 1, 1, 2, 3]) {
            let operator = *self.pick(&[
                "$set",
                "$set",
                "$unset",
                "$inc",
                "$mul",
                "$min",
                "$max",
                "$rename",
                "$push",
                "$push",
                "$push",
                "$addToSet",
                "$pull",
                "$pull",
                "$pop",
            ]);
            let mut changes = Document::new();
            for _ in 0..*self.pick(&[1, 1, 1, 2]) {
                let operand = self.operand(operator);
                changes.insert(self.path(), operand);
            }
            update.insert(operator, changes);
        }
        update
    }

    fn operand(&mut self, operator: &str) -> Bson {
        match operator {
            "$inc" | "$mul" if !self.one_in(10) => self.number(),
            "$rename" if !self.one_in(10) => Bson::String(self.path()),
            "$push" if !self.one_in(3) => Bson::Document(self.push()),
            "$addToSet" if self.one_in(2) => {
                let members: Vec<Bson> = (0..self.below(4)).map(|_| self.value(1)).collect();
                bson::bson!({ "$each": members })
            }
            "$pull" => match self.below(3) {
                0 => self.value(1),
                1 => Bson::Document(self.tests(1)),
                _ => Bson::Document(self.filter(1)),
            },
            "$pop" if !self.one_in(6) => self.pick(&[Bson::Int32(1), Bson::Int32(-1), Bson::Double(1.0)]).clone(),
            _ => self.value(2),
        }
    }

    fn push(&mut self) -> Document {
        let values: Vec<Bson> = (0..self.below(4)).map(|_| self.value(2)).collect();
        let mut push = doc! { "$each": values };
        if self.one_in(3) {
            push.insert("$position", *self.pick(&[0, 1, 2, 9, -1, -9]));
        }
        if self.one_in(3) {
            push.insert("$slice", *self.pick(&[0, 1, 2, 9, -1, -2, -9]));
        }
        if self.one_in(3) {
            let order = if self.one_in(2) { Bson::Int32(*self.pick(&[1, -1])) } else { Bson::Document(self.sort()) };
            push.insert("$sort", order);
        }
        if self.one_in(20) {
            push.insert(*self.pick(&["$slice", "$wrong", "$sort"]), self.scalar());
        }
        push
    }
}

pub fn raw(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).expect("bson")
}
