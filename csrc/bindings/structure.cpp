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
            py::gil_scoped_release release;
            found = torch_sla::breadth_first(r, c, n, start, limit);
          }
          return py::make_tuple(found.levels, found.reached, found.last);
        },
        array_arg("crow"), array_arg("ccol"), py::arg("start"), py::arg("limit"));
    m.def(
        "mirror_slots",
        [](const Array<Index>& crow, const Array<Index>& ccol, Array<Index>& slot) {
          const std::int64_t n = crow.size() - 1;
          expect_size(slot, ccol.size(), "slot");
          const Index *r = crow.data(), *c = ccol.data();
          Index* out = slot.mutable_data();
          py::gil_scoped_release release;
          return torch_sla::mirror_slots(r, c, n, out);
        },
        array_arg("crow"), array_arg("ccol"), array_arg("slot"));
    for_each_value([&](auto value) {
      using Value = decltype(value);
      m.def(
          "flags",
          [](const Array<Index>& crow, const Array<Index>& ccol, const Array<Value>& values) {
            const std::int64_t n = crow.size() - 1;
            const std::int64_t nnz = ccol.size(), count = nnz ? values.size() / nnz : 1;
            expect_size(values, count * nnz, "values");
            const Index *r = crow.data(), *c = ccol.data();
            const Value* v = values.data();
            torch_sla::MatrixFlags f;
            {
              py::gil_scoped_release release;
              f = torch_sla::matrix_flags(r, c, v, n);
              for (std::int64_t k = 1; k < count; ++k) f = f & torch_sla::matrix_flags(r, c, v + k * nnz, n);
            }
            return py::make_tuple(f.pattern, f.symmetric, f.hermitian, f.positive, f.dominant, f.left_over);
          },
          array_arg("crow"), array_arg("ccol"), array_arg("values"));
    });
  });
}
