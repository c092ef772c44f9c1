//! The documents: made from their place, the same on every run.

#[derive(Clone)]
pub struct Document {
    pub id: String,
    pub number: i64,
    pub body: String,
}

impl Document {
    pub fn at(place: usize) -> Self {
        // Spread, so that ids and numbers arrive in no order; every number comes twice.
        let mixed = (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let number = ((place / 2) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
        Self { id: format!("{mixed:016x}{place:016x}"), number: number as i64, body: "débrouille ".repeat(36) }
    }

    pub fn bson(&self) -> bson::Document {
        bson::doc! { "_id": &self.id, "number": self.number, "body": &self.body }
    }
}

pub fn make(count: usize) -> Vec<Document> {
    (0..count).map(Document::at).collect()
}
