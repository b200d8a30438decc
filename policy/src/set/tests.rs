mod observing;
mod slices;
