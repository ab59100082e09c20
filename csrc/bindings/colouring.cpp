#include "torch_sla/colouring.hpp"

#include "arrays.hpp"

using namespace torch_sla_bindings;

void bind_colouring(py::module_& m) {
  m.doc() = "Colouring of the rows of a sparse pattern.";
  for_each_index([&](auto index) {
    using Index = decltype(index);
    m.def(
        "colour_rows",
        [](const Array<Index>& crow, const Array<Index>& ccol, const Array<Index>& crow_t,
           const Array<Index>& ccol_t, Array<Index>& colour) {
          const std::int64_t n_rows = crow.size() - 1;
          expect_size(ccol_t, ccol.size(), "ccol_t");
          expect_size(colour, n_rows, "colour");
          const Index *r = crow.data(), *c = ccol.data(), *rt = crow_t.data(), *ct = ccol_t.data();
          Index* out = colour.mutable_data();
          const Released release;
          return torch_sla::colour_rows(r, c, rt, ct, n_rows, out);
        },
        array_arg("crow"), array_arg("ccol"), array_arg("crow_t"), array_arg("ccol_t"),
        array_arg("colour"));
  });
}
