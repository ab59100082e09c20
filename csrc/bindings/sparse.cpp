#include "arrays.hpp"
#include "torch_sla/csr.hpp"
#include "torch_sla/fingerprint.hpp"
#include "torch_sla/segments.hpp"
#include "torch_sla/spmm.hpp"

namespace {

using namespace torch_sla_bindings;

template <class Index>
void bind_indices(py::module_& m) {
  m.def(
      "coo_to_csr",
      [](const Array<Index>& row, const Array<Index>& col, std::int64_t n_rows, std::int64_t n_cols,
         Array<Index>& crow, Array<Index>& ccol, Array<Index>& slot, int threads) {
        const std::int64_t nnz = row.size();
        expect_size(col, nnz, "col");
        expect_size(crow, n_rows + 1, "crow");
        expect_size(ccol, nnz, "ccol");
        expect_size(slot, nnz, "slot");
        const Index *r = row.data(), *c = col.data();
        Index *out_crow = crow.mutable_data(), *out_ccol = ccol.mutable_data();
        Index* out_slot = slot.mutable_data();
        const Released release;
        return torch_sla::coo_to_csr(r, c, nnz, n_rows, n_cols, out_crow, out_ccol, out_slot,
                                     threads);
      },
      array_arg("row"), array_arg("col"), py::arg("n_rows"), py::arg("n_cols"), array_arg("crow"),
      array_arg("ccol"), array_arg("slot"), py::arg("threads"));

  m.def(
      "sorted_unique",
      [](const Array<Index>& row, const Array<Index>& col) {
        expect_size(col, row.size(), "col");
        const Index *r = row.data(), *c = col.data();
        const std::int64_t nnz = row.size();
        const Released release;
        return torch_sla::sorted_unique(r, c, nnz);
      },
      array_arg("row"), array_arg("col"));

  m.def(
      "count_offsets",
      [](const Array<Index>& target, std::int64_t n_targets, Array<Index>& offsets) {
        expect_size(offsets, n_targets + 1, "offsets");
        const Index* t = target.data();
        const std::int64_t n_sources = target.size();
        Index* out = offsets.mutable_data();
        const Released release;
        torch_sla::count_offsets(t, n_sources, n_targets, out);
      },
      array_arg("target"), py::arg("n_targets"), array_arg("offsets"));

  m.def(
      "segment_order",
      [](const Array<Index>& target, std::int64_t n_targets, Array<Index>& offsets,
         Array<Index>& order, int threads) {
        const std::int64_t n_sources = target.size();
        expect_size(offsets, n_targets + 1, "offsets");
        expect_size(order, n_sources, "order");
        const Index* t = target.data();
        Index *o = offsets.mutable_data(), *p = order.mutable_data();
        const Released release;
        torch_sla::segment_order(t, n_sources, n_targets, o, p, threads);
      },
      array_arg("target"), py::arg("n_targets"), array_arg("offsets"), array_arg("order"),
      py::arg("threads"));

  m.def(
      "expand_rows",
      [](const Array<Index>& crow, Array<Index>& row, int threads) {
        const std::int64_t n_rows = crow.size() - 1;
        const Index* c = crow.data();
        expect_size(row, c[n_rows], "row");
        Index* out = row.mutable_data();
        const Released release;
        torch_sla::expand_rows(c, n_rows, out, threads);
      },
      array_arg("crow"), array_arg("row"), py::arg("threads"));

  m.def(
      "transpose_csr",
      [](const Array<Index>& crow, const Array<Index>& ccol, std::int64_t n_cols,
         Array<Index>& crow_t, Array<Index>& ccol_t, Array<Index>& perm, int threads) {
        const std::int64_t n_rows = crow.size() - 1, nnz = ccol.size();
        expect_size(crow_t, n_cols + 1, "crow_t");
        expect_size(ccol_t, nnz, "ccol_t");
        expect_size(perm, nnz, "perm");
        const Index *r = crow.data(), *c = ccol.data();
        Index *rt = crow_t.mutable_data(), *ct = ccol_t.mutable_data(), *p = perm.mutable_data();
        const Released release;
        torch_sla::transpose_csr(r, c, n_rows, n_cols, rt, ct, p, threads);
      },
      array_arg("crow"), array_arg("ccol"), py::arg("n_cols"), array_arg("crow_t"),
      array_arg("ccol_t"), array_arg("perm"), py::arg("threads"));

  m.def(
      "diagonal_slots",
      [](const Array<Index>& crow, const Array<Index>& ccol, Array<Index>& slot, int threads) {
        const std::int64_t n = slot.size();
        if (n > crow.size() - 1) throw std::invalid_argument("`slot` is longer than the diagonal");
        const Index *r = crow.data(), *c = ccol.data();
        Index* s = slot.mutable_data();
        const Released release;
        torch_sla::diagonal_slots(r, c, n, s, threads);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("slot"), py::arg("threads"));
}

template <class Index, class T>
void bind_values(py::module_& m) {
  // Arrays are [batch, n, k]; k is the last dimension.
  m.def(
      "segment_sum",
      [](const Array<T>& x, const Array<Index>& offsets, const Array<Index>& order, Array<T>& out,
         int threads) {
        const std::int64_t batch = x.shape(0), n_sources = x.shape(1), k = x.shape(2);
        const std::int64_t n_targets = offsets.size() - 1;
        expect_size(order, n_sources, "order");
        expect_size(out, batch * n_targets * k, "out");
        const Index *o = offsets.data(), *p = order.data();
        const T* source = x.data();
        T* target = out.mutable_data();
        const Released release;
        torch_sla::segment_sum(o, p, source, target, batch, n_sources, n_targets, k, threads);
      },
      array_arg("x"), array_arg("offsets"), array_arg("order"), array_arg("out"),
      py::arg("threads"));

  m.def(
      "gather",
      [](const Array<T>& y, const Array<Index>& target, Array<T>& out, int threads) {
        const std::int64_t batch = y.shape(0), n_targets = y.shape(1), k = y.shape(2);
        const std::int64_t n_sources = target.size();
        expect_size(out, batch * n_sources * k, "out");
        const Index* t = target.data();
        const T* source = y.data();
        T* x = out.mutable_data();
        const Released release;
        torch_sla::gather(t, source, x, batch, n_sources, n_targets, k, threads);
      },
      array_arg("y"), array_arg("target"), array_arg("out"), py::arg("threads"));

  // values [values_batch, nnz], x [x_batch, n_cols, k], y [batch, n_rows, k]; a batch of one is
  // shared by all members of the other.
  m.def(
      "spmm",
      [](const Array<Index>& crow, const Array<Index>& ccol, const Array<T>& values,
         const Array<T>& x, Array<T>& y, const std::optional<Array<Index>>& slots,
         std::int64_t values_batch, std::int64_t x_batch, std::int64_t k, bool conj, int threads) {
        const std::int64_t nnz = ccol.size(), n_rows = crow.size() - 1;
        const std::int64_t batch = values_batch == 1 ? x_batch : values_batch;
        if (x_batch != 1 && x_batch != batch)
          throw std::invalid_argument("the batch of `x` must be 1 or that of `values`");
        if (slots) expect_size(*slots, nnz, "slots");
        expect_size(values, values_batch * nnz, "values");
        expect_size(y, batch * n_rows * k, "y");
        const torch_sla::ProductShape shape{batch,
                                            n_rows,
                                            k,
                                            values_batch == 1 ? 0 : nnz,
                                            x_batch == 1 ? 0 : x.size() / x_batch,
                                            n_rows * k};
        const Index *r = crow.data(), *c = ccol.data(), *s = slots ? slots->data() : nullptr;
        const T *a = values.data(), *source = x.data();
        T* target = y.mutable_data();
        const Released release;
        torch_sla::spmm(r, c, s, a, source, target, shape, conj, threads);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("values"), array_arg("x"), array_arg("y"),
      array_arg("slots").none(true), py::arg("values_batch"), py::arg("x_batch"), py::arg("k"),
      py::arg("conj"), py::arg("threads"));

  // u [batch, n_rows, k], v [batch, n_cols, k], out [batch, nnz].
  m.def(
      "sampled_product",
      [](const Array<Index>& crow, const Array<Index>& ccol, const Array<T>& u, const Array<T>& v,
         Array<T>& out, bool negative, int threads) {
        const std::int64_t n_rows = crow.size() - 1, nnz = ccol.size();
        const std::int64_t batch = u.shape(0), k = u.shape(2), n_cols = v.shape(1);
        expect_size(u, batch * n_rows * k, "u");
        expect_size(v, batch * n_cols * k, "v");
        expect_size(out, batch * nnz, "out");
        const Index *r = crow.data(), *c = ccol.data();
        const T *left = u.data(), *right = v.data();
        T* s = out.mutable_data();
        const Released release;
        torch_sla::sampled_product(r, c, left, right, s, batch, n_rows, n_cols, k, negative, threads);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("u"), array_arg("v"), array_arg("out"),
      py::arg("negative"), py::arg("threads"));
}

}  // namespace

void bind_sparse(py::module_& m) {
  m.doc() = "Index and value kernels of sparse matrices in compressed rows.";
  for_each_index([&](auto index) {
    using Index = decltype(index);
    bind_indices<Index>(m);
    for_each_value([&](auto value) { bind_values<Index, decltype(value)>(m); });
  });
  m.def(
      "fingerprint",
      [](const Array<std::uint8_t>& bytes, int threads) {
        const void* data = bytes.data();
        const std::int64_t size = bytes.size();
        torch_sla::Digest digest;
        {
          const Released release;
          digest = torch_sla::fingerprint(data, size, threads);
        }
        return py::make_tuple(digest.low, digest.high);
      },
      array_arg("bytes"), py::arg("threads"));
}
