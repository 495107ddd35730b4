# All flags travel on one interface target.  What must be built plain (the guest, the hostile
# helpers) does not link it.
add_library(aios_flags INTERFACE)
target_include_directories(aios_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_definitions(aios_flags INTERFACE _GNU_SOURCE AIOS_VERSION="${PROJECT_VERSION}")
target_compile_options(aios_flags INTERFACE
  -UNDEBUG -fno-strict-aliasing -fno-common -fvisibility=hidden
  -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wconversion -Wno-sign-conversion
  -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wundef -Wcast-qual
  -Wpointer-arith -Wwrite-strings -Wimplicit-fallthrough -Wno-missing-field-initializers)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(aios_flags INTERFACE -Wlogical-op -Wduplicated-cond)
endif()
if(AIOS_WERROR)
  target_compile_options(aios_flags INTERFACE -Werror)
endif()
if(AIOS_SANITIZE)
  target_compile_options(aios_flags INTERFACE -fsanitize=${AIOS_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(aios_flags INTERFACE -fsanitize=${AIOS_SANITIZE})
endif()
if(AIOS_FUZZ)
  target_compile_options(aios_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(aios_flags INTERFACE -O2 -g1 -D_FORTIFY_SOURCE=3
    -fstack-protector-strong -fstack-clash-protection -fcf-protection)
  target_compile_options(aios_flags INTERFACE -ffunction-sections -fdata-sections)
  target_link_options(aios_flags INTERFACE -Wl,-z,relro -Wl,-z,now -Wl,--gc-sections)
endif()
