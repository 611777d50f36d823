// The forward pass: an online softmax over blocks of keys.

// Logits of a query block with a key block: s (rows, step) = (q . k) scale + bias, over all packed tiles.
template <class A>
struct Logits {
  const A *q, *tiles, *bias;
  A* s;
  int64_t width, tile_size, tile_count, step;
  A scale;

  template <int R>
  FASTGAN_NOINLINE void rows(int64_t row) const {
    for (int64_t n = 0; n < tile_count; n++) {
      Tile<A, R> tile;
      tile.product(q + row * width, width, tiles + n * tile_size, width);
      const A* b = bias + n * kTileColumns<A>;
      A* out = s + row * step + n * kTileColumns<A>;
      const Vec<A> factor = Vec<A>{} + scale;
#pragma GCC unroll 8
      for (int i = 0; i < R; i++)
#pragma GCC unroll 4
        for (int j = 0; j < kTileVectors; j++)
          store(out + i * step + j * kLanes<A>, tile.v[i][j] * factor + load(b + j * kLanes<A>));
    }
  }
};

template <class T>
struct ForwardScratch {
  using A = accumulate_t<T>;
  Arena<A> arena;
  KeySide<T, A> key_side;
  int64_t step = kBlockKeys + 16;
  A *q, *s, *o, *max, *sum;
  ForwardScratch(A* base, const AttentionProblem& p, const AttentionInputs& in)
      : arena{base}, key_side(arena, p, in, false) {
    q = arena.take(kBlockQueries * key_side.width);
    s = arena.take(kBlockQueries * step);
    o = arena.take(kBlockQueries * key_side.v_width);
    max = arena.take(kBlockQueries);
    sum = arena.take(kBlockQueries);
  }
};

template <class T>
int64_t forward_scratch(const AttentionProblem& p, const AttentionInputs& in) {
  return ForwardScratch<T>(nullptr, p, in).arena.used;
}

// One step of the online softmax over a block of `width` keys: s becomes exp(s - max), max, sum and o follow.
template <class A>
void softmax_block(const AttentionProblem& p, const QueryBlock& block, int64_t j0, int64_t width, A* s, int64_t step,
                   A* max, A* sum, A* o, int64_t v_width) {
  constexpr int L = kLanes<A>;
  const A infinity = std::numeric_limits<A>::infinity();
  for (int64_t i = 0; i < block.rows; i++) {
    A* row = s + i * step;
    for (int64_t j = std::max<int64_t>(0, visible(p, block.first + i, j0)); j < width; j++) row[j] = -infinity;
    Vec<A> top = load(row);
    for (int64_t j = L; j < width; j += L) top = maximum<A>(load(row + j), top);
    const A previous = max[i], largest = std::max(max_lanes<A>(top), previous);
    const A base = largest == -infinity ? A(0) : largest;  // no visible key so far
    Vec<A> total = {};
    for (int64_t j = 0; j < width; j += L) {
      const Vec<A> e = exp2_vec(load(row + j) - base);
      store(row + j, e);
      total += e;
    }
    const A kept = std::exp2(previous - base);
    max[i] = largest;
    sum[i] = sum[i] * kept + sum_lanes<A>(total);
    if (kept != A(1) && previous != -infinity) {
      for (int64_t c = 0; c < v_width; c += L) store(o + i * v_width + c, load(o + i * v_width + c) * kept);
    }
  }
}

// 1 / sum of a row; 0 for a row that sees no key.
template <class A>
FASTGAN_INLINE A inverse_of(A sum) {
  return sum == A(0) ? A(0) : A(1) / sum;
}

template <class A>
void divide_rows(A* s, int64_t step, int64_t rows, int64_t width, const A* sums) {
  for (int64_t i = 0; i < rows; i++) {
    const A inverse = inverse_of(sums[i]);
    for (int64_t j = 0; j < width; j += kLanes<A>) store(s + i * step + j, load(s + i * step + j) * inverse);
  }
}

// Groups of query blocks [begin, end) of all heads.
template <class T>
void attention_forward(const AttentionProblem& p, const AttentionInputs& in, T* out, accumulate_t<T>* logsumexp,
                       accumulate_t<T>* memory, int64_t begin, int64_t end) {
  using A = accumulate_t<T>;
  const A infinity = std::numeric_limits<A>::infinity();
  ForwardScratch<T> m(memory, p, in);
  KeySide<T, A>& side = m.key_side;
  for (int64_t item = begin; item < end; item++) {
    const int64_t head = item / p.groups;
    side.load_head(p, in, head);
    for (int64_t index = item % p.groups; index < query_block_count(p); index += p.groups) {
      const QueryBlock block(p, index);
      pack_rows(head_of<T>(in.q, p, head) + block.first * in.q.row, in.q.row, in.q.column, block.rows, p.qk_width, m.q,
                side.width, side.width);
      std::fill(m.max, m.max + kBlockQueries, -infinity);
      std::fill(m.sum, m.sum + kBlockQueries, A(0));
      // With one block of keys, P is divided by its row sums before P V, which is written in its place.
      const int64_t first_row = head * p.queries + block.first;
      bool in_place = false;
      A* o = m.o;
      if constexpr (std::is_same_v<T, A>) {
        in_place = block.keys <= kBlockKeys && p.v_width == side.v_width;
        if (in_place) o = out + first_row * p.v_width;
      }
      std::fill(o, o + block.rows * side.v_width, A(0));
      for (int64_t j0 = 0; j0 < block.keys; j0 += kBlockKeys) {
        const KeyBlock key_block(block, j0, kTileColumns<A>);
        in_row_tiles(block.rows, Logits<A>{m.q, side.k_tiles + j0 / kTileColumns<A> * side.qk_tile, side.bias + j0, m.s,
                                           side.width, side.qk_tile, key_block.tiles, m.step, A(p.scale * kLog2e)});
        softmax_block(p, block, j0, key_block.tiles * kTileColumns<A>, m.s, m.step, m.max, m.sum, o, side.v_width);
        if (in_place) divide_rows(m.s, m.step, block.rows, key_block.tiles * kTileColumns<A>, m.sum);
        const Term<A> pv{m.s, m.step, side.v.data + j0 * side.v.step, side.v.step, key_block.width};
        add_products<Layout::rows>(o, side.v_width, block.rows, side.v_width, &pv, 1);
      }
      for (int64_t i = 0; i < block.rows; i++) {
        const int64_t row = first_row + i;
        if (!in_place)
          write_rows(o + i * side.v_width, side.v_width, 1, p.v_width, inverse_of(m.sum[i]), out + row * p.v_width);
        logsumexp[row] = m.sum[i] == A(0) ? -infinity : (m.max[i] + std::log2(m.sum[i])) * A(kLn2);
      }
    }
  }
}
