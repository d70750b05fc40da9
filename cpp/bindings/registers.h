// What module.cpp calls. Bindings convert, release the GIL and raise; they hold no logic.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "common/status.h"

namespace embedcore::bindings {

void register_index(pybind11::module_& m);
void register_dualwrite(pybind11::module_& m);
void register_dual_writer(pybind11::module_& m);
void register_serving(pybind11::module_& m);

// Raises the Python exception of this error's code. Call with the GIL held.
[[noreturn]] void raise(const Error& error);

// The same with a code that only Python has, from the table of embedcore.errors.
[[noreturn]] void raise_as(const char* code, const std::string& message);

inline void raise_if_error(const Status& status) {
  if (!status.ok()) raise(status.error());
}

} // namespace embedcore::bindings
