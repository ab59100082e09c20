#include "torch_sla/spgemm.hpp"

#include "arrays.hpp"

namespace {

using namespace torch_sla_bindings;

template <class Index>
void bind_positions(py::module_& m) {
  m.def(
      "offsets",
      [](const Array<Index>& crow_a, const Array<Index>& ccol_a, const Array<Index>& crow_b,
         const Array<Index>& ccol_b, std::int64_t n_cols, Array<Index>& crow_c, int threads) {
        const std::int64_t n_rows = crow_a.size() - 1;
        expect_size(crow_c, n_rows + 1, "crow_c");
        const Index *ra = crow_a.data(), *ca = ccol_a.data();
        const Index *rb = crow_b.data(), *cb = ccol_b.data();
        Index* out = crow_c.mutable_data();
        const Released release;
        return torch_sla::spgemm_offsets(ra, ca, rb, cb, n_rows, n_cols, out, threads);
      },
      array_arg("crow_a"), array_arg("ccol_a"), array_arg("crow_b"), array_arg("ccol_b"),
      py::arg("n_cols"), array_arg("crow_c"), py::arg("threads"));

  m.def(
      "columns",
      [](const Array<Index>& crow_a, const Array<Index>& ccol_a, const Array<Index>& crow_b,
         const Array<Index>& ccol_b, std::int64_t n_cols, const Array<Index>& crow_c,
         Array<Index>& ccol_c, int threads) {
        const std::int64_t n_rows = crow_a.size() - 1;
        expect_size(crow_c, n_rows + 1, "crow_c");
        expect_size(ccol_c, crow_c.data()[n_rows], "ccol_c");
        const Index *ra = crow_a.data(), *ca = ccol_a.data();
        const Index *rb = crow_b.data(), *cb = ccol_b.data(), *rc = crow_c.data();
        Index* out = ccol_c.mutable_data();
        const Released release;
        torch_sla::spgemm_columns(ra, ca, rb, cb, n_rows, n_cols, rc, out, threads);
      },
      array_arg("crow_a"), array_arg("ccol_a"), array_arg("crow_b"), array_arg("ccol_b"),
      py::arg("n_cols"), array_arg("crow_c"), array_arg("ccol_c"), py::arg("threads"));
}

template <class Index, class T>
void bind_masked(py::module_& m) {
  // x [x_batch, nnz_x], y [y_batch, nnz_y], out [batch, nnz_p]; a batch of one is shared.
  m.def(
      "masked",
      [](const Array<Index>& crow_x, const Array<Index>& ccol_x, const Array<T>& x,
         const Array<Index>& crow_y, const Array<Index>& ccol_y, const Array<T>& y,
         const Array<Index>& crow_p, const Array<Index>& ccol_p, std::int64_t n_cols,
         Array<T>& out, int threads) {
        const std::int64_t batch = out.shape(0), n_rows = crow_p.size() - 1;
        const std::int64_t nnz_x = ccol_x.size(), nnz_y = ccol_y.size(), nnz = ccol_p.size();
        if ((x.shape(0) != 1 && x.shape(0) != batch) || (y.shape(0) != 1 && y.shape(0) != batch))
          throw std::invalid_argument("the batches of `x` and `y` must be 1 or that of `out`");
        expect_size(crow_x, n_rows + 1, "crow_x");
        expect_size(x, x.shape(0) * nnz_x, "x");
        expect_size(y, y.shape(0) * nnz_y, "y");
        expect_size(out, batch * nnz, "out");
        const torch_sla::MaskedShape shape{batch,
                                           n_rows,
                                           n_cols,
                                           x.shape(0) == 1 ? 0 : nnz_x,
                                           y.shape(0) == 1 ? 0 : nnz_y,
                                           nnz};
        const Index *rx = crow_x.data(), *cx = ccol_x.data(), *ry = crow_y.data();
        const Index *cy = ccol_y.data(), *rp = crow_p.data(), *cp = ccol_p.data();
        const T *left = x.data(), *right = y.data();
        T* target = out.mutable_data();
        const Released release;
        torch_sla::spgemm_masked(rx, cx, left, ry, cy, right, rp, cp, target, shape, threads);
      },
      array_arg("crow_x"), array_arg("ccol_x"), array_arg("x"), array_arg("crow_y"),
      array_arg("ccol_y"), array_arg("y"), array_arg("crow_p"), array_arg("ccol_p"),
      py::arg("n_cols"), array_arg("out"), py::arg("threads"));
}

}  // namespace

void bind_spgemm(py::module_& m) {
  m.doc() = "Products of two sparse matrices in compressed rows.";
  for_each_index([&](auto index) {
    using Index = decltype(index);
    bind_positions<Index>(m);
    for_each_value([&](auto value) { bind_masked<Index, decltype(value)>(m); });
  });
}
