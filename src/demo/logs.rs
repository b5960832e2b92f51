//! Made-up Docker logs: lines as the json-file driver writes them (FORMAT section 7), from a seed.

/// A small seeded generator (SplitMix64), so that the same seed makes the same logs.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `n - 1`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n.max(1)
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let at = self.below(from.len() as u64) as usize;
        from.get(at).copied().unwrap_or_default()
    }

    pub fn hex(&mut self, digits: usize) -> String {
        (0..digits).filter_map(|_| char::from_digit(self.below(16) as u32, 16)).collect()
    }
}

/// What a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Web,
    Worker,
    Database,
    Proxy,
}

const PATHS: [&str; 8] = [
    "/",
    "/login",
    "/api/v1/patients",
    "/api/v1/visits?page=2",
    "/api/v1/claims/export",
    "/healthz",
    "/assets/app.js",
    "/logout",
];
const JOBS: [&str; 4] = ["ClaimExport", "NightlyReport", "SendReminder", "SyncEligibility"];
const TABLES: [&str; 4] = ["visits", "claims", "sessions", "audit_events"];

/// Appends records from `start` (Unix seconds) up to `end`, about `lines` of them.
pub fn write(program: Program, random: &mut Random, start: i64, end: i64, lines: u64, out: &mut Vec<u8>) {
    let span = (end - start).max(1) as u64;
    for n in 0..lines {
        let secs = start + (span * n / lines.max(1)) as i64;
        let nanos = random.below(1_000_000_000) as u32;
        match program {
            Program::Web => web(random, secs, nanos, out),
            Program::Worker => worker(random, secs, nanos, out),
            Program::Database => database(random, secs, nanos, out),
            Program::Proxy => proxy(random, secs, nanos, out),
        }
    }
}

fn web(random: &mut Random, secs: i64, nanos: u32, out: &mut Vec<u8>) {
    let (path, ms, id) = (random.pick(&PATHS), random.below(900) + 3, uuid(random));
    let status = match random.below(50) {
        0 => 500,
        1..=3 => 404,
        4..=9 => 302,
        _ => 200,
    };
    let line = format!(
        r#"{{"level":"info","msg":"request","method":"GET","path":"{path}","status":{status},"duration_ms":{ms},"request_id":"{id}"}}"#
    );
    record(&line, "stdout", secs, nanos, out);
    if status == 500 {
        record(
            &format!("ERROR request {id} failed: upstream timed out\twhile reading {path}"),
            "stderr",
            secs,
            nanos,
            out,
        );
        for frame in ["Api::ClaimsController#export", "ActionController::Base#process", "Puma::Server#run"] {
            record(
                &format!("    at {frame} (app/{}.rb:{})", random.hex(6), random.below(400)),
                "stderr",
                secs,
                nanos,
                out,
            );
        }
    }
}

fn worker(random: &mut Random, secs: i64, nanos: u32, out: &mut Vec<u8>) {
    let (job, id) = (random.pick(&JOBS), uuid(random));
    if random.below(40) == 0 {
        record(
            &format!("ERROR {job} {id} raised Net::ReadTimeout; will retry <attempt 2>"),
            "stderr",
            secs,
            nanos,
            out,
        );
    } else {
        let took = random.below(30_000);
        record(&format!("INFO {job} {id} done in {took} ms"), "stdout", secs, nanos, out);
    }
}

fn database(random: &mut Random, secs: i64, nanos: u32, out: &mut Vec<u8>) {
    let (table, ms) = (random.pick(&TABLES), random.below(4000));
    let pid = 100 + random.below(60);
    record(
        &format!(
            "[{pid}] LOG:  duration: {ms}.{:03} ms  statement: SELECT * FROM {table} WHERE id = $1",
            random.below(1000)
        ),
        "stderr",
        secs,
        nanos,
        out,
    );
}

fn proxy(random: &mut Random, secs: i64, nanos: u32, out: &mut Vec<u8>) {
    let path = random.pick(&PATHS);
    let address = format!("203.0.113.{}", random.below(255));
    let status = if random.below(60) == 0 { 502 } else { 200 };
    record(
        &format!("{address} - - \"GET {path} HTTP/1.1\" {status} {} \"-\" \"Mozilla/5.0\"", random.below(50_000)),
        "stdout",
        secs,
        nanos,
        out,
    );
}

fn uuid(random: &mut Random) -> String {
    let hex = random.hex(32);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// One json-file record of `text` and a line feed. Times have their trailing zeros trimmed, as Docker writes them.
fn record(text: &str, stream: &str, secs: i64, nanos: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"log":""#);
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(br#"\""#),
            '\\' => out.extend_from_slice(br"\\"),
            // Go's JSON encoder escapes these, and control characters.
            '<' | '>' | '&' | '\0'..='\x1f' => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    let time = crate::key::Time::from_unix(secs, nanos).unwrap_or(crate::key::Time::EPOCH);
    out.extend_from_slice(format!("\\n\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_docker_record_and_the_seed_decides() {
        for program in [Program::Web, Program::Worker, Program::Database, Program::Proxy] {
            let make = |seed| {
                let mut out = Vec::new();
                write(program, &mut Random::new(seed), 1_661_300_000, 1_661_386_400, 500, &mut out);
                out
            };
            assert_eq!(make(1), make(1));
            assert_ne!(make(1), make(2));
            let text = String::from_utf8(make(3)).unwrap();
            assert!(text.ends_with('\n') && text.lines().count() >= 500);
            for line in text.lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(record["log"].as_str().unwrap().ends_with('\n'));
                assert!(record["time"].as_str().unwrap().starts_with("2022-08-2"));
            }
        }
    }
}
