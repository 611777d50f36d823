// The backward pass, one block of queries after another. A block of scores is used while it is in the cache.

// What is read per query of a block: [X | Q] (or Q alone), dO, O, L and D, padded.
template <class T, class A>
struct QuerySide {
  int64_t width, v_width, step;  // step: row distance in xq
  A *xq, *q, *grad_out_buffer, *out_buffer, *lse2, *dot, *delta;
  Rows<A> grad_out{}, out{};

  QuerySide(Arena<A>& arena, const AttentionProblem& p, const AttentionInputs& in)
      : width(round_up(p.qk_width, kLanes<A>)),
        v_width(round_up(p.v_width, kLanes<A>)),
        step(in.x ? 2 * width : width),
        xq(arena.take(kBlockQueries * step)),
        q(in.x && xq ? xq + width : xq),
        grad_out_buffer(buffer(arena, in.grad_out, p)),
        out_buffer(buffer(arena, in.out, p)),
        lse2(arena.take(kBlockQueries)),
        dot(arena.take(kBlockQueries)),
        delta(arena.take(kBlockQueries)) {}

  A* buffer(Arena<A>& arena, const AttentionOperand& t, const AttentionProblem& p) const {
    return needs_buffer<T, A>(t, p.v_width, v_width) ? arena.take(kBlockQueries * v_width) : nullptr;
  }

  void load_block(const AttentionProblem& p, const AttentionInputs& in, int64_t head, const QueryBlock& block) {
    rows(p, in.q, head, block, p.qk_width, q, step, width);
    if (in.x) rows(p, in.x, head, block, p.qk_width, xq, step, width);
    grad_out = rows_of<T>(in.grad_out, p, head, block.first, block.rows, p.v_width, v_width, grad_out_buffer);
    out = rows_of<T>(in.out, p, head, block.first, block.rows, p.v_width, v_width, out_buffer);
    const A infinity = std::numeric_limits<A>::infinity();
    const A* lse = head_of<A>(in.logsumexp, p, head) + block.first * in.logsumexp.row;
    for (int64_t i = 0; i < block.rows; i++) {
      const A value = lse[i * in.logsumexp.row];
      lse2[i] = value == -infinity ? infinity : value * A(kLog2e);  // a row that sees no key has P = 0
      Vec<A> sum = {};
      for (int64_t c = 0; c < v_width; c += kLanes<A>)
        sum += load(grad_out.data + i * grad_out.step + c) * load(out.data + i * out.step + c);
      dot[i] = sum_lanes<A>(sum);
      delta[i] = dot[i];
    }
    if (in.grad_logsumexp) {
      const A* g = head_of<A>(in.grad_logsumexp, p, head) + block.first * in.grad_logsumexp.row;
      for (int64_t i = 0; i < block.rows; i++) delta[i] -= g[i * in.grad_logsumexp.row];
    }
  }

  void rows(const AttentionProblem& p, const AttentionOperand& t, int64_t head, const QueryBlock& block, int64_t cols,
            A* dst, int64_t dst_step, int64_t padded) {
    pack_rows(head_of<T>(t, p, head) + block.first * t.row, t.row, t.column, block.rows, cols, dst, dst_step, padded);
  }
};

// Computes P tile by tile: exp2 of the logits minus L, and 0 if a query does not see a key.
template <class A>
struct ScoreSource {
  const AttentionProblem* problem;
  const A *q, *tiles, *bias, *lse2;  // q and lse2 of the query block, tiles and bias of the key block
  int64_t q_step, width, tile_size;
  int64_t first_row, first_key;
  A scale;

  template <int R>
  FASTGAN_INLINE void tile(int64_t row, int64_t column_tile, A* p, int64_t step) const {
    Tile<A, R> t;
    t.product(q + row * q_step, q_step, tiles + column_tile * tile_size, width);
    const Vec<A> factor = Vec<A>{} + scale;
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const Vec<A> l = Vec<A>{} + lse2[row + i];
#pragma GCC unroll 4
      for (int j = 0; j < kTileVectors; j++) {
        const Vec<A> logit = t.v[i][j] * factor + load(bias + column_tile * kTileColumns<A> + j * kLanes<A>);
        store(p + i * step + j * kLanes<A>, exp2_vec(logit - l));
      }
    }
    const int64_t key = first_key + column_tile * kTileColumns<A>;
    if (visible(*problem, first_row + row, key) < kTileColumns<A>) {
      for (int i = 0; i < R; i++) {
        for (int64_t j = std::max<int64_t>(0, visible(*problem, first_row + row + i, key)); j < kTileColumns<A>; j++)
          p[i * step + j] = A(0);
      }
    }
  }
};

// P and dS of a query block with a key block.
template <class A>
struct BackwardScores {
  ScoreSource<A> source;
  Rows<A> grad_out;
  const A *v_tiles, *delta;
  int64_t v_width, v_tile, tiles, step;
  A *p, *ds;
  bool only_p;

  template <int R>
  FASTGAN_NOINLINE void rows(int64_t row) const {
    for (int64_t n = 0; n < tiles; n++) {
      const int64_t at = row * step + n * kTileColumns<A>;
      source.template tile<R>(row, n, p + at, step);
      if (only_p) continue;
      Tile<A, R> dp;
      dp.product(grad_out.data + row * grad_out.step, grad_out.step, v_tiles + n * v_tile, v_width);
#pragma GCC unroll 8
      for (int i = 0; i < R; i++) {
        const Vec<A> d = Vec<A>{} + delta[row + i];
#pragma GCC unroll 4
        for (int j = 0; j < kTileVectors; j++) {
          const int64_t here = at + i * step + j * kLanes<A>;
          store(ds + here, load(p + here) * (dp.v[i][j] - d));
        }
      }
    }
  }
};

template <class A>
ScoreSource<A> score_source(const AttentionProblem& p, const auto& query_side, const auto& key_side,
                            const QueryBlock& block, const KeyBlock& key_block) {
  return {&p,
          query_side.q,
          key_side.k_tiles + key_block.first / kTileColumns<A> * key_side.qk_tile,
          key_side.bias + key_block.first,
          query_side.lse2,
          query_side.step,
          key_side.width,
          key_side.qk_tile,
          block.first,
          key_block.first,
          A(p.scale * kLog2e)};
}

// out[j] += sum over rows of s (rows, step).
template <class A>
void add_column_sums(const A* s, int64_t step, int64_t rows, int64_t width, A* out) {
  for (int64_t j = 0; j < width; j += kLanes<A>) {
    Vec<A> sum = load(out + j);
    for (int64_t i = 0; i < rows; i++) sum += load(s + i * step + j);
    store(out + j, sum);
  }
}

// What a group of query blocks sums up for the keys of its head: dK / tau (keys, width), dV (keys, v_width), dbias
// (keys).
template <class A>
int64_t key_sums_size(const AttentionProblem& p) {
  return round_up(p.keys, kTileColumns<A>) * (round_up(p.qk_width, kLanes<A>) + round_up(p.v_width, kLanes<A>) + 1);
}

template <class A>
struct KeySums {
  int64_t width, v_width, size;
  A *k, *v, *bias;
  KeySums(const AttentionProblem& p, A* memory, int64_t head, int64_t group)
      : width(round_up(p.qk_width, kLanes<A>)),
        v_width(round_up(p.v_width, kLanes<A>)),
        size(key_sums_size<A>(p)),
        k(memory + (head * p.groups + group) * size),
        v(k + round_up(p.keys, kTileColumns<A>) * width),
        bias(v + round_up(p.keys, kTileColumns<A>) * v_width) {}
};

// Adds up the groups of heads [begin, end) in order and writes the wanted outputs.
template <class T>
void attention_key_gradients(const AttentionProblem& p, accumulate_t<T>* sums, const AttentionGradients& grads,
                             int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  for (int64_t head = begin; head < end; head++) {
    const KeySums<A> total(p, sums, head, 0);
    for (int64_t g = 1; g < p.groups; g++) {
      for (int64_t i = 0; i < total.size; i += kLanes<A>)
        store(total.k + i, load(total.k + i) + load(total.k + g * total.size + i));
    }
    if (grads.k)
      write_rows(total.k, total.width, p.keys, p.qk_width, A(p.scale),
                 static_cast<T*>(grads.k) + head * p.keys * p.qk_width);
    if (grads.v)
      write_rows(total.v, total.v_width, p.keys, p.v_width, A(1), static_cast<T*>(grads.v) + head * p.keys * p.v_width);
    if (grads.key_bias) std::copy_n(total.bias, p.keys, static_cast<A*>(grads.key_bias) + head * p.keys);
  }
}

template <class T>
struct BackwardScratch {
  using A = accumulate_t<T>;
  Arena<A> arena;
  KeySide<T, A> keys;
  QuerySide<T, A> queries;
  int64_t step = kBlockKeys + 16;
  A *p, *ds, *dq;
  BackwardScratch(A* base, const AttentionProblem& problem, const AttentionInputs& in)
      : arena{base}, keys(arena, problem, in, true), queries(arena, problem, in) {
    p = arena.take(kBlockQueries * step);
    ds = arena.take(kBlockQueries * step);
    dq = arena.take(kBlockQueries * keys.width);
  }
};

template <class T>
int64_t backward_scratch(const AttentionProblem& p, const AttentionInputs& in) {
  return BackwardScratch<T>(nullptr, p, in).arena.used;
}

// Groups [begin, end) of all heads: dQ of their query blocks, and their sums for dK, dV, dbias.
template <class T>
void attention_backward(const AttentionProblem& p, const AttentionInputs& in, const AttentionGradients& grads,
                        accumulate_t<T>* sums, accumulate_t<T>* memory, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  BackwardScratch<T> m(memory, p, in);
  const auto& side = m.keys;
  const auto& rows = m.queries;
  const bool only_p = !grads.q && !grads.k && !grads.key_bias;
  for (int64_t item = begin; item < end; item++) {
    const int64_t head = item / p.groups;
    const KeySums<A> sum(p, sums, head, item % p.groups);
    std::fill(sum.k, sum.k + sum.size, A(0));
    m.keys.load_head(p, in, head);
    for (int64_t index = item % p.groups; index < query_block_count(p); index += p.groups) {
      const QueryBlock block(p, index);
      m.queries.load_block(p, in, head, block);
      std::fill(m.dq, m.dq + block.rows * side.width, A(0));
      for (int64_t j0 = 0; j0 < block.keys; j0 += kBlockKeys) {
        const KeyBlock key_block(block, j0, kTileColumns<A>);
        in_row_tiles(block.rows,
                     BackwardScores<A>{score_source<A>(p, rows, side, block, key_block), rows.grad_out,
                                       side.v_tiles + j0 / kTileColumns<A> * side.v_tile, rows.delta, side.v_width,
                                       side.v_tile, key_block.tiles, m.step, m.p, m.ds, only_p});
        if (grads.q) {
          const Term<A> t{m.ds, m.step, side.k.data + j0 * side.k.step, side.k.step, key_block.width};
          add_products<Layout::rows>(m.dq, side.width, block.rows, side.width, &t, 1);
        }
        if (grads.k) {
          const Term<A> t{m.ds, m.step, rows.q, rows.step, block.rows};
          add_products<Layout::transposed>(sum.k + j0 * side.width, side.width, key_block.width, side.width, &t, 1);
        }
        if (grads.v) {
          const Term<A> t{m.p, m.step, rows.grad_out.data, rows.grad_out.step, block.rows};
          add_products<Layout::transposed>(sum.v + j0 * side.v_width, side.v_width, key_block.width, side.v_width, &t,
                                           1);
        }
        if (grads.key_bias) add_column_sums(m.ds, m.step, block.rows, key_block.tiles * kTileColumns<A>, sum.bias + j0);
      }
      if (grads.q)
        write_rows(m.dq, side.width, block.rows, p.qk_width, A(p.scale),
                   static_cast<T*>(grads.q) + (head * p.queries + block.first) * p.qk_width);
    }
  }
}
