// What Python sees of the emulator: its settings, and the counters of every launch.
#include <pybind11/pybind11.h>

#include "counters.h"
#include "fiber.h"
#include "planted.h"

namespace py = pybind11;
using namespace emulator;

template <class Value>
static Value named(const std::string& name, std::initializer_list<std::pair<const char*, Value>> values) {
  for (const auto& [known, value] : values) {
    if (name == known) return value;
  }
  throw py::value_error("no " + name + " here");
}

static void configure(const std::string& schedule, uint64_t seed, int preempt, int64_t shared_memory,
                      const std::string& mistake, bool portable) {
  settings.schedule = named<Schedule>(
      schedule, {{"sequential", Schedule::sequential}, {"reverse", Schedule::reverse}, {"random", Schedule::random}});
  settings.mistake = named<Mistake>(mistake, {{"none", Mistake::none},
                                              {"missing_barrier", Mistake::missing_barrier},
                                              {"out_of_bounds", Mistake::out_of_bounds},
                                              {"uninitialised_read", Mistake::uninitialised_read}});
  settings.seed = seed;
  settings.preempt = preempt;
  settings.shared_memory = shared_memory;
  portable_fibers = portable;
}

static py::list take_launches() {
  py::list all;
  for (const Launch& launch : launches) {
    py::dict read, written;
    for (const auto& [name, traffic] : launch.traffic) {
      if (traffic.read) read[py::str(name)] = traffic.read;
      if (traffic.written) written[py::str(name)] = traffic.written;
    }
    all.append(py::make_tuple(launch.kernel, launch.blocks, launch.shared_bytes, read, written));
  }
  launches.clear();
  return all;
}

PYBIND11_MODULE(fastgan_emulated, m) {
  m.def("configure", &configure, py::arg("schedule"), py::arg("seed"), py::arg("preempt"), py::arg("shared_memory"),
        py::arg("mistake"), py::arg("portable"));
  m.def("take_launches", &take_launches);
  m.def("run_planted", &run_planted);
}
