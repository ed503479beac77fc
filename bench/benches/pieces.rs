//! The server's hot pieces under Criterion: `cargo bench -p tern-bench --bench pieces`. What each does is said in
//! src/pieces.rs; `tern-bench pieces` measures the same ones.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tern_bench::pieces;

fn each_piece(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pieces");
    group.throughput(Throughput::Elements(1));
    for kind in pieces::ALL {
        let mut piece = kind.ready().expect("the piece can be made");
        group.bench_function(kind.name, |bencher| bencher.iter_custom(|times| piece.run(times)));
    }
    group.finish();
}

criterion_group!(benches, each_piece);
criterion_main!(benches);
