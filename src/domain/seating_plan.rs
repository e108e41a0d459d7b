//! seating_plan
