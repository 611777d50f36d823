// A libcuda that does nothing, as far as Triton's driver and launcher call it: one GPU of Hopper's kind, every call
// succeeds, and launches are counted. Handles are numbers that nobody follows.
#include <stddef.h>
#include <stdint.h>

typedef int CUresult;

static void *const context = (void*)1, *const module = (void*)2, *const function = (void*)3;
static long launches = 0;

long stub_launches(void) { return launches; }

CUresult cuInit(unsigned flags) { return 0; }
CUresult cuDriverGetVersion(int* version) { return *version = 13000, 0; }
CUresult cuDeviceGetCount(int* count) { return *count = 1, 0; }
CUresult cuDeviceGet(int* device, int ordinal) { return *device = 0, 0; }

CUresult cuDeviceGetAttribute(int* value, int attribute, int device) {
  switch (attribute) {
    case 8:
      return *value = 48 * 1024, 0;  // shared memory of a block
    case 10:
      return *value = 32, 0;  // warp size
    case 12:
      return *value = 65536, 0;  // registers of a block
    case 16:
      return *value = 132, 0;  // multiprocessors
    case 75:
      return *value = 9, 0;  // compute capability
    case 76:
      return *value = 0, 0;
    case 97:
      return *value = 227 * 1024, 0;  // shared memory that a block can opt into
    default:
      return *value = 1024, 0;
  }
}

CUresult cuCtxGetCurrent(void** current) { return *current = context, 0; }
CUresult cuCtxSetCurrent(void* current) { return 0; }
CUresult cuCtxGetDevice(int* device) { return *device = 0, 0; }
CUresult cuCtxGetLimit(size_t* value, int limit) { return *value = 0, 0; }
CUresult cuCtxSetLimit(int limit, size_t value) { return 0; }
CUresult cuDevicePrimaryCtxRetain(void** retained, int device) { return *retained = context, 0; }

CUresult cuModuleLoadData(void** loaded, const void* image) { return *loaded = module, 0; }
CUresult cuModuleUnload(void* loaded) { return 0; }
CUresult cuModuleGetFunction(void** found, void* loaded, const char* name) { return *found = function, 0; }
CUresult cuFuncGetAttribute(int* value, int attribute, void* of) { return *value = attribute == 0 ? 1024 : 0, 0; }
CUresult cuFuncSetAttribute(void* of, int attribute, int value) { return 0; }
CUresult cuFuncSetCacheConfig(void* of, int config) { return 0; }
CUresult cuOccupancyMaxActiveClusters(int* count, void* of, const void* config) { return *count = 1, 0; }

CUresult cuLaunchKernelEx(const void* config, void* of, void** parameters, void** extra) { return launches++, 0; }

CUresult cuPointerGetAttribute(uint64_t* data, int attribute, uint64_t pointer) { return *data = pointer, 0; }
CUresult cuPointerGetAttributes(unsigned count, int* attributes, uint64_t** data, uint64_t pointer) {
  for (unsigned i = 0; i < count; ++i) *data[i] = pointer;
  return 0;
}

CUresult cuTensorMapEncodeTiled(void* map) { return 0; }
CUresult cuTensorMapEncodeIm2col(void* map) { return 0; }
CUresult cuGetErrorString(CUresult error, const char** text) { return *text = "an error of the stub", 0; }
CUresult cuGetProcAddress_v2(const char* name, void** found, int version, uint64_t flags, void* status) {
  return *found = NULL, 1;
}
