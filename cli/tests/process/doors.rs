//! Hostile input at every door of a server and an agent: what is refused, what it costs, and that everybody
//! else is served meanwhile.
//!
//! | to find | look in |
//! |---|---|
//! | the doors, who may come through them, and what an attack costs | `world` |
//! | certificates, good ones and others, from the server's own authority | `papers` |
//! | TLS as a client of ill will speaks it | `tls` |
//! | HTTP/2 frames, well-formed and otherwise | `frames` |
//! | certificates, versions, resumption, handshakes without end | `handshakes` |
//! | floods of frames, invalid frames | `floods` |
//! | calls that are never finished, never read, or too large | `calls` |
//! | whoever never finishes anything, at all doors at once | `patience` |
//! | HTTP/1.1: heads and bodies without end, two lengths, two requests | `requests` |

mod calls;
mod floods;
mod frames;
mod handshakes;
mod papers;
mod patience;
mod requests;
mod tls;
mod world;
