// The double backward pass. Within a query block everything is local. A first sweep over the keys computes and keeps P,
// dP, P*E and T0 of the whole block and sums mu and b. A second sweep turns them into dS, dS2 and P*(E - mu).

template <class T>
struct DoubleBackwardScratch {
  using A = accumulate_t<T>;
  Arena<A> arena;
  KeySide<T, A> keys;
  QuerySide<T, A> queries;
  int64_t step, block_size;  // row distance in a block of scores, elements of one
  A *p, *dp, *pe, *t0, *mu_lanes, *b_lanes, *mu, *b, *o, *dq;
  DoubleBackwardScratch(A* base, const AttentionProblem& problem, const AttentionInputs& in)
      : arena{base}, keys(arena, problem, in, true), queries(arena, problem, in) {
    step = std::min(kBlockKeys, keys.keys) + 16;
    block_size = kBlockQueries * step;
    const int64_t blocks = (problem.keys + kBlockKeys - 1) / kBlockKeys;
    p = arena.take(blocks * block_size);
    dp = arena.take(blocks * block_size);
    pe = arena.take(blocks * block_size);
    t0 = arena.take(blocks * block_size);
    mu_lanes = arena.take(kBlockQueries * kLanes<A>);
    b_lanes = arena.take(kBlockQueries * kLanes<A>);
    mu = arena.take(kBlockQueries);
    b = arena.take(kBlockQueries);
    o = arena.take(kBlockQueries * keys.v_width);
    dq = arena.take(kBlockQueries * keys.width);
  }
};

template <class T>
int64_t double_backward_scratch(const AttentionProblem& p, const AttentionInputs& in) {
  return DoubleBackwardScratch<T>(nullptr, p, in).arena.used;
}

// P, dP, P*E and T0 of a query block with a key block, and their share of mu and b.
template <class A>
struct SecondOrderScores {
  ScoreSource<A> source;
  Rows<A> grad_out;
  const A *v_tiles, *z_tiles;
  int64_t z_width;
  const A* delta;
  int64_t v_width, v_tile;
  const A *e_rows, *e_tiles, *x_bias;  // E = tau e_rows e_tiles + x
  int64_t e_width;
  A scale;
  int64_t tiles, step;
  A *p, *dp, *pe, *t0, *mu_lanes, *b_lanes;
  bool first_order;  // dP and T0 are needed

  template <int R>
  FASTGAN_NOINLINE void rows(int64_t row) const {
    for (int64_t n = 0; n < tiles; n++) {
      const int64_t at = row * step + n * kTileColumns<A>;
      source.template tile<R>(row, n, p + at, step);
      Tile<A, R> tile;
      if (first_order) {
        tile.product(grad_out.data + row * grad_out.step, grad_out.step, v_tiles + n * v_tile, v_width);
#pragma GCC unroll 8
        for (int i = 0; i < R; i++)
#pragma GCC unroll 4
          for (int j = 0; j < kTileVectors; j++) store(dp + at + i * step + j * kLanes<A>, tile.v[i][j]);
      }

      tile.product(e_rows + row * source.q_step, source.q_step, e_tiles + n * source.tile_size, e_width);
      const Vec<A> factor = Vec<A>{} + scale;
#pragma GCC unroll 8
      for (int i = 0; i < R; i++) {
        Vec<A> sum = load(mu_lanes + (row + i) * kLanes<A>);
#pragma GCC unroll 4
        for (int j = 0; j < kTileVectors; j++) {
          const int64_t here = at + i * step + j * kLanes<A>;
          Vec<A> e = tile.v[i][j] * factor;
          if (x_bias) e += load(x_bias + n * kTileColumns<A> + j * kLanes<A>);
          const Vec<A> pe_here = load(p + here) * e;
          sum += pe_here;
          store(pe + here, pe_here);
          if (first_order) store(t0 + here, e);
        }
        store(mu_lanes + (row + i) * kLanes<A>, sum);
      }

      if (!first_order) continue;
      tile.product(grad_out.data + row * grad_out.step, grad_out.step, z_tiles + n * v_tile, z_width);
#pragma GCC unroll 8
      for (int i = 0; i < R; i++) {
        Vec<A> sum = load(b_lanes + (row + i) * kLanes<A>);
        const Vec<A> d = Vec<A>{} + delta[row + i];
#pragma GCC unroll 4
        for (int j = 0; j < kTileVectors; j++) {
          const int64_t here = at + i * step + j * kLanes<A>;
          const Vec<A> t = tile.v[i][j] + load(t0 + here) * (load(dp + here) - d);
          sum += load(p + here) * t;
          store(t0 + here, t);
        }
        store(b_lanes + (row + i) * kLanes<A>, sum);
      }
    }
  }
};

// In place: pe becomes P*(E - mu), dp becomes dS, t0 becomes dS2.
template <class A>
void finish_scores(const A* p, A* dp, A* pe, A* t0, int64_t width, A mu, A b, A delta) {
  for (int64_t j = 0; j < width; j += kLanes<A>) {
    const Vec<A> pj = load(p + j), dpj = load(dp + j);
    store(pe + j, load(pe + j) - pj * mu);
    store(t0 + j, pj * (load(t0 + j) - dpj * mu - b));
    store(dp + j, pj * (dpj - delta));
  }
}

// Groups [begin, end) of all heads: ddO, ddL, dQ' of their query blocks, and their sums for dK', dV', dbias'.
template <class T>
void attention_double_backward(const AttentionProblem& p, const AttentionInputs& in, const AttentionGradients& grads,
                               accumulate_t<T>* sums, accumulate_t<T>* memory, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  constexpr int L = kLanes<A>;
  DoubleBackwardScratch<T> m(memory, p, in);
  const auto& side = m.keys;
  const auto& rows = m.queries;
  const bool first_order = grads.q || grads.k || grads.v || grads.key_bias;
  for (int64_t item = begin; item < end; item++) {
    const int64_t head = item / p.groups;
    const KeySums<A> sum(p, sums, head, item % p.groups);
    std::fill(sum.k, sum.k + sum.size, A(0));
    m.keys.load_head(p, in, head);
    for (int64_t index = item % p.groups; index < query_block_count(p); index += p.groups) {
      const QueryBlock block(p, index);
      m.queries.load_block(p, in, head, block);
      std::fill(m.mu_lanes, m.mu_lanes + kBlockQueries * L, A(0));
      std::fill(m.b_lanes, m.b_lanes + kBlockQueries * L, A(0));
      std::fill(m.o, m.o + block.rows * side.v_width, A(0));
      std::fill(m.dq, m.dq + block.rows * side.width, A(0));

      for (int64_t j0 = 0; j0 < block.keys; j0 += kBlockKeys) {
        const KeyBlock key_block(block, j0, kTileColumns<A>);
        const int64_t first_tile = j0 / kTileColumns<A>, at = j0 / kBlockKeys * m.block_size;
        // [X | Q] times [K ; Y]. Without X or without Y, the remaining product alone.
        const A* k_tiles = side.k_tiles + first_tile * side.qk_tile;
        in_row_tiles(block.rows, SecondOrderScores<A>{score_source<A>(p, rows, side, block, key_block),
                                                      rows.grad_out,
                                                      side.v_tiles + first_tile * side.v_tile,
                                                      (in.z ? side.z_tiles : side.v_tiles) + first_tile * side.v_tile,
                                                      in.z ? side.v_width : 0,
                                                      rows.delta,
                                                      side.v_width,
                                                      side.v_tile,
                                                      rows.xq,
                                                      in.x ? k_tiles : k_tiles + side.width * kTileColumns<A>,
                                                      side.x_bias ? side.x_bias + j0 : nullptr,
                                                      (in.x ? side.width : 0) + (in.y ? side.width : 0),
                                                      A(p.scale),
                                                      key_block.tiles,
                                                      m.step,
                                                      m.p + at,
                                                      m.dp + at,
                                                      m.pe + at,
                                                      m.t0 + at,
                                                      m.mu_lanes,
                                                      m.b_lanes,
                                                      first_order});
        if (grads.grad_out) {
          const Term<A> t[2] = {
              {m.pe + at, m.step, side.v.data + j0 * side.v.step, side.v.step, key_block.width},
              {m.p + at, m.step, in.z ? side.z.data + j0 * side.z.step : nullptr, side.z.step, key_block.width}};
          add_products<Layout::rows>(m.o, side.v_width, block.rows, side.v_width, t, in.z ? 2 : 1);
        }
      }

      for (int64_t i = 0; i < block.rows; i++) {
        const int64_t row = head * p.queries + block.first + i;
        m.mu[i] = sum_lanes<A>(load(m.mu_lanes + i * L));
        m.b[i] = sum_lanes<A>(load(m.b_lanes + i * L)) - m.mu[i] * rows.dot[i];
        if (grads.grad_logsumexp) static_cast<A*>(grads.grad_logsumexp)[row] = m.mu[i];
        if (grads.grad_out) {
          A* o = m.o + i * side.v_width;
          for (int64_t c = 0; c < side.v_width; c += L)
            store(o + c, load(o + c) - load(rows.out.data + i * rows.out.step + c) * m.mu[i]);
          write_rows(o, side.v_width, 1, p.v_width, A(1), static_cast<T*>(grads.grad_out) + row * p.v_width);
        }
      }
      if (!first_order) continue;

      for (int64_t j0 = 0; j0 < block.keys; j0 += kBlockKeys) {
        const KeyBlock key_block(block, j0, kTileColumns<A>);
        const int64_t at = j0 / kBlockKeys * m.block_size;
        const A *f = m.pe + at, *ds = m.dp + at, *ds2 = m.t0 + at;
        for (int64_t i = 0; i < block.rows; i++) {
          const int64_t r = at + i * m.step;
          finish_scores(m.p + r, m.dp + r, m.pe + r, m.t0 + r, key_block.tiles * kTileColumns<A>, m.mu[i], m.b[i],
                        rows.delta[i]);
        }
        if (grads.q) {
          const Term<A> t[2] = {
              {ds2, m.step, side.k.data + j0 * side.k.step, side.k.step, key_block.width},
              {ds, m.step, in.y ? side.y.data + j0 * side.y.step : nullptr, side.y.step, key_block.width}};
          add_products<Layout::rows>(m.dq, side.width, block.rows, side.width, t, in.y ? 2 : 1);
        }
        if (grads.k) {
          const Term<A> t[2] = {{ds2, m.step, rows.q, rows.step, block.rows},
                                {ds, m.step, rows.xq, rows.step, block.rows}};
          add_products<Layout::transposed>(sum.k + j0 * side.width, side.width, key_block.width, side.width, t,
                                           in.x ? 2 : 1);
        }
        if (grads.v) {
          const Term<A> t{f, m.step, rows.grad_out.data, rows.grad_out.step, block.rows};
          add_products<Layout::transposed>(sum.v + j0 * side.v_width, side.v_width, key_block.width, side.v_width, &t,
                                           1);
        }
        if (grads.key_bias) add_column_sums(ds2, m.step, block.rows, key_block.tiles * kTileColumns<A>, sum.bias + j0);
      }
      if (grads.q)
        write_rows(m.dq, side.width, block.rows, p.qk_width, A(p.scale),
                   static_cast<T*>(grads.q) + (head * p.queries + block.first) * p.qk_width);
    }
  }
}
