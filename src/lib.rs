//! pilotfish
pub mod topology; pub mod routing; pub mod stats;
