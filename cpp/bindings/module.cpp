// embedcore._native: the private native module under the typed Python layer.
#include "bindings/registers.h"

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native core of embedcore; import embedcore instead.";
  embedcore::bindings::register_index(m);
  embedcore::bindings::register_dualwrite(m);
  embedcore::bindings::register_dual_writer(m);
  embedcore::bindings::register_serving(m);
}
