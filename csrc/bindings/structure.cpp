#include "torch_sla/pattern.hpp"
#include "torch_sla/structure.hpp"

#include "arrays.hpp"

using namespace torch_sla_bindings;

void bind_structure(py::module_& m) {
  m.doc() = "What a CSR matrix is, found in one pass.";
  for_each_index([&](auto index) {
    using Index = decltype(index);
    m.def(
        "breadth_first",
        [](const Array<Index>& crow, const Array<Index>& ccol, std::int64_t start, std::int64_t limit) {
          const std::int64_t n = crow.size() - 1;
          if (start < 0 || start >= n) throw std::invalid_argument("`start` is not a row");
          const Index *r = crow.data(), *c = ccol.data();
          torch_sla::Breadth found;
          {
            const Released release;
            found = torch_sla::breadth_first(r, c, n, start, limit);
          }
          return py::make_tuple(found.levels, found.reached, found.last);
        },
        array_arg("crow"), array_arg("ccol"), py::arg("start"), py::arg("limit"));
    m.def(
        "is_csr",
        [](const Array<Index>& crow, const Array<Index>& ccol, std::int64_t columns) {
          const std::int64_t rows = crow.size() - 1, nnz = ccol.size();
          if (rows < 0) throw std::invalid_argument("`crow` is empty");
          const Index *r = crow.data(), *c = ccol.data();
          const Released release;
          return torch_sla::is_csr(r, c, rows, columns, nnz);
        },
        array_arg("crow"), array_arg("ccol"), py::arg("columns"));
    m.def(
        "mirror_slots",
        [](const Array<Index>& crow, const Array<Index>& ccol, Array<Index>& slot) {
          const std::int64_t n = crow.size() - 1;
          expect_size(slot, ccol.size(), "slot");
          const Index *r = crow.data(), *c = ccol.data();
          Index* out = slot.mutable_data();
          const Released release;
          return torch_sla::mirror_slots(r, c, n, out);
        },
        array_arg("crow"), array_arg("ccol"), array_arg("slot"));
    m.def(
        "lattice_fit",
        [](const Array<Index>& crow, const Array<Index>& ccol, const Array<std::int64_t>& shape,
           const Array<std::int64_t>& offsets, const Array<std::int64_t>& steps) {
          const std::int64_t count = offsets.size();
          expect_size(shape, 3, "shape");
          expect_size(steps, 3 * count, "steps");
          expect_size(crow, shape.data()[0] * shape.data()[1] * shape.data()[2] + 1, "crow");
          const Index *r = crow.data(), *c = ccol.data();
          const std::int64_t *s = shape.data(), *o = offsets.data(), *d = steps.data();
          torch_sla::LatticeFit found;
          {
            const Released release;
            found = torch_sla::lattice_fit(r, c, s, o, d, count);
          }
          return py::make_tuple(found.known, found.missed, found.fits);
        },
        array_arg("crow"), array_arg("ccol"), array_arg("shape"), array_arg("offsets"), array_arg("steps"));
    for_each_value([&](auto value) {
      using Value = decltype(value);
      m.def(
          "largest_row_sum",
          [](const Array<Index>& crow, const Array<Value>& values) {
            const std::int64_t n = crow.size() - 1;
            expect_size(values, crow.data()[n], "values");
            const Index* r = crow.data();
            const Value* v = values.data();
            const Released release;
            return double(torch_sla::largest_row_sum(r, v, n));
          },
          array_arg("crow"), array_arg("values"));
      if constexpr (std::is_floating_point_v<Value>)
        m.def(
            "descends",
            [](const Array<Index>& crow, const Array<Index>& ccol, const Array<Value>& values, int steps, double sure,
               int threads) {
              const std::int64_t n = crow.size() - 1;
              expect_size(ccol, crow.data()[n], "ccol");
              expect_size(values, ccol.size(), "values");
              const Index *r = crow.data(), *c = ccol.data();
              const Value* v = values.data();
              const Released release;
              return torch_sla::descends(r, c, v, n, steps, sure, threads);
            },
            array_arg("crow"), array_arg("ccol"), array_arg("values"), py::arg("steps"), py::arg("sure"),
            py::arg("threads"));
      m.def(
          "size_range",
          [](const Array<Value>& values, const Array<Index>& slots) {
            const Index* s = slots.data();
            const std::int64_t count = slots.size(), size = values.size();
            for (std::int64_t i = 0; i < count; ++i)
              if (s[i] >= size) throw std::invalid_argument("a slot is beyond the values");
            const Value* v = values.data();
            const Released release;
            const auto found = torch_sla::size_range(v, s, count);
            return std::array<double, 2>{double(found[0]), double(found[1])};
          },
          array_arg("values"), array_arg("slots"));
      m.def(
          "flags",
          [](const Array<Index>& crow, const Array<Index>& ccol, const Array<Value>& values, int threads) {
            const std::int64_t n = crow.size() - 1;
            const std::int64_t nnz = ccol.size(), count = nnz ? values.size() / nnz : 1;
            expect_size(values, count * nnz, "values");
            const Index *r = crow.data(), *c = ccol.data();
            const Value* v = values.data();
            torch_sla::MatrixFlags f;
            {
              const Released release;
              f = torch_sla::matrix_flags(r, c, v, n, threads);
              for (std::int64_t k = 1; k < count; ++k) 
                f = f & torch_sla::matrix_flags(r, c, v + k * nnz, n, threads);
            }
            return py::make_tuple(f.pattern, f.symmetric, f.hermitian, f.positive, f.dominant, f.rounded, f.left_over);
          },
          array_arg("crow"), array_arg("ccol"), array_arg("values"), py::arg("threads"));
    });
  });
}
