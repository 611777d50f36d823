// Register-blocked products of small matrices: C += A B. Included by kernel headers after simd.h, inside its namespace:
// no guard, no includes. A is read element by element (any strides, so also transposed), B and C row by row in vectors.

constexpr int kTileRows = 6;  // 6 x 2 accumulators, 2 vectors of B and a broadcast of A: 15 of 16 registers
constexpr int kTileVectors = 2;
template <class A>
constexpr int kPanel = kTileVectors * kLanes<A>;  // keys per panel of a packed transposed matrix

constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

template <class A, int R, int C>
FASTGAN_INLINE void multiply_add_step(Vec<A> (&c)[R][C], const A* a, int64_t a_row, const A* b) {
  Vec<A> bk[C];
#pragma GCC unroll 4
  for (int j = 0; j < C; j++) bk[j] = load(b + j * kLanes<A>);
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) {
    const A aik = a[i * a_row];
#pragma GCC unroll 4
    for (int j = 0; j < C; j++) c[i][j] += bk[j] * aik;
  }
}

template <class A, int R, int C>
FASTGAN_INLINE void multiply_add(Vec<A> (&c)[R][C], const A* a, int64_t a_row, int64_t a_step, const A* b,
                                 int64_t b_step, int64_t length) {
  int64_t k = 0;
  for (; k + 4 <= length; k += 4) {
#pragma GCC unroll 4
    for (int u = 0; u < 4; u++) multiply_add_step<A, R, C>(c, a + u * a_step, a_row, b + u * b_step);
    a += 4 * a_step;
    b += 4 * b_step;
  }
  for (; k < length; k++) {
    multiply_add_step<A, R, C>(c, a, a_row, b);
    a += a_step;
    b += b_step;
  }
}

// One summand of a product: element (i, k) of A at a[i * a_row + k * a_step], row k of B at b + k * b_step.
template <class A>
struct Term {
  const A* a;
  int64_t a_row, a_step;
  const A* b;
  int64_t b_step, length;
};

template <class A, int R, int C>
inline void add_products_tile(A* c, int64_t c_row, int64_t column, int64_t row, const Term<A>* terms, int count) {
  Vec<A> tile[R][C];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 4
    for (int j = 0; j < C; j++) tile[i][j] = load(c + i * c_row + j * kLanes<A>);
  for (int t = 0; t < count; t++) {
    const Term<A>& term = terms[t];
    multiply_add<A, R, C>(tile, term.a + row * term.a_row, term.a_row, term.a_step, term.b + column, term.b_step,
                          term.length);
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++)
#pragma GCC unroll 4
    for (int j = 0; j < C; j++) store(c + i * c_row + j * kLanes<A>, tile[i][j]);
}

// All columns of R rows.
template <class A, int R>
inline void add_products_rows(A* c, int64_t c_row, int64_t cols, int64_t row, const Term<A>* terms, int count) {
  int64_t column = 0;
  c += row * c_row;
  for (; column + kPanel<A> <= cols; column += kPanel<A>)
    add_products_tile<A, R, kTileVectors>(c + column, c_row, column, row, terms, count);
  if (column < cols) add_products_tile<A, R, 1>(c + column, c_row, column, row, terms, count);
}

// C (rows, cols) += sum of the terms; cols is a multiple of kLanes<A>.
template <class A>
void add_products(A* c, int64_t c_row, int64_t rows, int64_t cols, const Term<A>* terms, int count) {
  int64_t row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) add_products_rows<A, kTileRows>(c, c_row, cols, row, terms, count);
  switch (rows - row) {
    case 5:
      return add_products_rows<A, 5>(c, c_row, cols, row, terms, count);
    case 4:
      return add_products_rows<A, 4>(c, c_row, cols, row, terms, count);
    case 3:
      return add_products_rows<A, 3>(c, c_row, cols, row, terms, count);
    case 2:
      return add_products_rows<A, 2>(c, c_row, cols, row, terms, count);
    case 1:
      return add_products_rows<A, 1>(c, c_row, cols, row, terms, count);
  }
}
