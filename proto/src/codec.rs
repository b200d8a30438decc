//! Messages in and out of bytes, in buffers that begin small.
//!
//! tonic's own codec takes 8 KiB for each direction of each call and keeps them as long as the call
//! lasts. Our streams last as long as the programs that hold them, and say little.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// Room for most requests. What is larger makes its buffer grow.
const BUFFER: usize = 256;

/// How many bytes of a stream's messages are sent at a time; tonic's own number.
const BATCH: usize = 32 << 10;

/// The codec of every service and client.
#[derive(Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, BATCH))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, BATCH))
    }
}
