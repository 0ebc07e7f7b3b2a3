//! Bytes to write: noise, text, and both in turns.

/// Length of a stretch of noise or text.
const STRETCH_BYTES: usize = 512;
/// What the text repeats.
const PHRASE: &[u8] = b"the quick brown fox jumps over the lazy dog and writes it down; ";
/// Words that prose is made of.
const WORDS: usize = 4096;
/// Letters of the longest word.
const WORD_LETTERS: u64 = 10;

/// A xorshift generator: the same bytes in every run.
pub struct Noise(u64);

/// What a file is filled with.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Half noise, half a phrase that repeats, in stretches of 512 bytes: stored in about half.
    Half,
    /// Random words: what every compressor takes.
    Prose,
}

/// Makes content of one kind.
pub struct Content {
    noise: Noise,
    kind: Kind,
    phrases: Vec<u8>,
    words: Vec<Vec<u8>>,
}

impl Noise {
    pub fn new(seed: u64) -> Noise {
        Noise(0x9e37_79b9_7f4a_7c15 ^ seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

impl Content {
    pub fn new(kind: Kind, seed: u64) -> Content {
        let mut dictionary = Noise::new(1);
        let mut word = || {
            let letters = 2 + dictionary.next() % (WORD_LETTERS - 1);
            let mut word: Vec<u8> = (0..letters).map(|_| b'a' + (dictionary.next() % 26) as u8).collect();
            word.push(b' ');
            word
        };
        Content {
            noise: Noise::new(seed),
            kind,
            phrases: PHRASE.iter().copied().cycle().take(PHRASE.len() + STRETCH_BYTES).collect(),
            words: (0..WORDS).map(|_| word()).collect(),
        }
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        match self.kind {
            Kind::Half => self.fill_half(bytes),
            Kind::Prose => self.fill_prose(bytes),
        }
    }

    fn fill_half(&mut self, bytes: &mut [u8]) {
        for (index, stretch) in bytes.chunks_mut(STRETCH_BYTES).enumerate() {
            if index % 2 == 0 {
                self.noise.fill(stretch);
            } else {
                let skip = (self.noise.next() % PHRASE.len() as u64) as usize;
                stretch.copy_from_slice(&self.phrases[skip..skip + stretch.len()]);
            }
        }
    }

    fn fill_prose(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let word = &self.words[(self.noise.next() % WORDS as u64) as usize];
            let count = word.len().min(rest.len());
            let (front, back) = rest.split_at_mut(count);
            front.copy_from_slice(&word[..count]);
            rest = back;
        }
    }
}
