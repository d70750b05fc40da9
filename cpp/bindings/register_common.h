// Hashes, checksums and error codes: what register_serving.cpp registers beside the router.
#pragma once

#include <pybind11/pybind11.h>

namespace embedcore::bindings {

void register_common(pybind11::module_& m);

} // namespace embedcore::bindings
