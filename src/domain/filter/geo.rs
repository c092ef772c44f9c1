//! Points on the sphere: distances, and what lies inside a shape.

use crate::{base::fault::Fault, domain::path};
use bson::{RawArray, RawBsonRef, RawDocument};

/// Metres, as MongoDB takes the earth to be.
pub const EARTH_RADIUS: f64 = 6_378_100.0;

/// Degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub longitude: f64,
    pub latitude: f64,
}

/// `$near`: a point and the distances from it, in metres.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    pub point: Point,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

/// What `$geoWithin` can ask about.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Inside one of these.
    Polygons(Vec<Polygon>),
    /// Around a point, radius in radians.
    Cap { centre: Point, radius: f64 },
    /// Flat, by coordinates: the lowest and the highest corner.
    Box { low: Point, high: Point },
}

/// On the sphere, edges along great circles.
#[derive(Debug, Clone, PartialEq)]
pub struct Polygon {
    outer: Ring,
    holes: Vec<Ring>,
}

/// The corners as unit vectors, the first again at the end, and the direction of their middle.
#[derive(Debug, Clone, PartialEq)]
struct Ring {
    corners: Vec<Vector>,
    middle: Vector,
}

type Vector = [f64; 3];

impl Point {
    /// A GeoJSON point, or a pair of numbers: longitude, then latitude.
    pub fn read(value: RawBsonRef<'_>) -> Option<Self> {
        let point = match value {
            RawBsonRef::Array(pair) => Self::read_pair(pair)?,
            RawBsonRef::Document(document) => match path::field(document, "type") {
                Some(RawBsonRef::String("Point")) => {
                    Self::read_pair(path::field(document, "coordinates")?.as_array()?)?
                }
                Some(_) => return None,
                None => Self::read_embedded(document)?,
            },
            _ => return None,
        };
        point.is_on_earth().then_some(point)
    }

    /// A pair of numbers, on the earth or not.
    pub(super) fn read_flat(value: RawBsonRef<'_>) -> Option<Self> {
        Self::read_pair(value.as_array()?)
    }

    fn read_pair(pair: &RawArray) -> Option<Self> {
        let mut numbers = path::elements(pair).map(number);
        Some(Self { longitude: numbers.next()??, latitude: numbers.next()?? })
    }

    /// `{lng: 1, lat: 2}`: the first two fields, whatever their names.
    fn read_embedded(document: &RawDocument) -> Option<Self> {
        let mut numbers = document.iter().map_while(Result::ok).map(|(_, value)| number(value));
        Some(Self { longitude: numbers.next()??, latitude: numbers.next()?? })
    }

    pub(super) fn is_on_earth(&self) -> bool {
        self.longitude.abs() <= 180.0 && self.latitude.abs() <= 90.0
    }

    /// Along the great circle (haversine), in radians.
    pub fn angle(self, other: Self) -> f64 {
        let (a, b) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_latitude = ((b - a) / 2.0).sin();
        let half_longitude = ((other.longitude - self.longitude).to_radians() / 2.0).sin();
        let chord = half_latitude * half_latitude + a.cos() * b.cos() * half_longitude * half_longitude;
        2.0 * chord.sqrt().min(1.0).asin()
    }

    fn vector(self) -> Vector {
        let (longitude, latitude) = (self.longitude.to_radians(), self.latitude.to_radians());
        [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
    }
}

pub(super) fn number(value: RawBsonRef<'_>) -> Option<f64> {
    match value {
        RawBsonRef::Int32(number) => Some(f64::from(number)),
        RawBsonRef::Int64(number) => Some(number as f64),
        RawBsonRef::Double(number) => Some(number).filter(|number| number.is_finite()),
        RawBsonRef::Decimal128(number) => number.to_string().parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

impl Near {
    /// How far the nearest point is that the path leads to, in metres; `None` without one, or when that is nearer
    /// or farther than asked.
    pub fn distance(&self, document: &RawDocument, path: &path::Path) -> Option<f64> {
        let mut nearest: Option<f64> = None;
        path::any(document, path.parts(), path::Leaf::Elements, &mut |value| {
            let metres = value.and_then(Point::read).map(|point| self.metres(point));
            nearest = match (nearest, metres) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            false
        });
        nearest.filter(|metres| self.accepts(*metres))
    }

    /// One value alone.
    pub(super) fn holds(&self, value: RawBsonRef<'_>) -> bool {
        Point::read(value).is_some_and(|point| self.accepts(self.metres(point)))
    }

    fn metres(&self, point: Point) -> f64 {
        self.point.angle(point) * EARTH_RADIUS
    }

    fn accepts(&self, metres: f64) -> bool {
        self.min.is_none_or(|min| metres >= min) && self.max.is_none_or(|max| metres <= max)
    }
}

impl Shape {
    pub(super) fn holds(&self, value: RawBsonRef<'_>) -> bool {
        let Some(point) = Point::read(value) else { return false };
        match self {
            Self::Polygons(polygons) => polygons.iter().any(|polygon| polygon.holds(point)),
            Self::Cap { centre, radius } => centre.angle(point) <= *radius,
            Self::Box { low, high } => {
                (low.longitude..=high.longitude).contains(&point.longitude)
                    && (low.latitude..=high.latitude).contains(&point.latitude)
            }
        }
    }
}

impl Polygon {
    /// The outer ring, then its holes; each closed, of four positions at least, within half the globe.
    pub(super) fn new(rings: &[Vec<Point>], path: &str) -> Result<Self, Fault> {
        let rings: Option<Vec<Ring>> = rings.iter().map(|corners| Ring::new(corners)).collect();
        match rings.as_deref() {
            Some([outer, holes @ ..]) => Ok(Self { outer: outer.clone(), holes: holes.to_vec() }),
            _ => Err(Fault::new("query.geo_polygon").at(path)),
        }
    }

    fn holds(&self, point: Point) -> bool {
        let eye = point.vector();
        self.outer.holds(eye) && !self.holes.iter().any(|hole| hole.holds(eye))
    }
}

impl Ring {
    fn new(points: &[Point]) -> Option<Self> {
        if points.len() < 4 || points.first() != points.last() || !points.iter().all(Point::is_on_earth) {
            return None;
        }
        let corners: Vec<Vector> = points.iter().map(|point| point.vector()).collect();
        let middle = corners.iter().fold([0.0; 3], |sum, v| [sum[0] + v[0], sum[1] + v[1], sum[2] + v[2]]);
        corners.iter().all(|corner| dot(middle, *corner) > 0.0).then_some(Self { corners, middle })
    }

    /// Going once round the ring, a point inside turns by a whole turn, a point outside by none. A point on the
    /// other half of the globe would see the ring behind it.
    fn holds(&self, eye: Vector) -> bool {
        let mut turn = 0.0;
        for edge in self.corners.windows(2) {
            let &[a, b] = edge else { continue };
            turn += dot(eye, cross(a, b)).atan2(dot(a, b) - dot(a, eye) * dot(b, eye));
        }
        f64::abs(turn) > std::f64::consts::PI && dot(self.middle, eye) > 0.0
    }
}

fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}
