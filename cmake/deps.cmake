# Every dependency comes from the distribution and is asked for through pkg-config.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(UV      REQUIRED IMPORTED_TARGET libuv>=1.44)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.14)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp>=2.5.4)
pkg_check_modules(SQLITE  REQUIRED IMPORTED_TARGET sqlite3>=3.40)
if(BUILD_TESTING)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka>=1.1.5)
endif()

# Loading and relocating shared libraries takes a third of the time in which `aios mcp` answers
# initialize (docs/decisions/static-libraries.md), so programs with the property AIOS_ARCHIVES take
# their archives, where the distribution has them.  Tests do not: their faults belong to our code.
if(AIOS_STATIC_DEPS)
  function(aios_use_archive target archive)
    find_library(${target}_ARCHIVE NAMES ${archive})
    if(${target}_ARCHIVE)
      get_target_property(shared PkgConfig::${target} INTERFACE_LINK_LIBRARIES)
      set(choice "$<BOOL:$<TARGET_PROPERTY:AIOS_ARCHIVES>>")
      set_target_properties(PkgConfig::${target} PROPERTIES INTERFACE_LINK_LIBRARIES
        "$<${choice}:${${target}_ARCHIVE}>;$<$<NOT:${choice}>:${shared}>;${ARGN}")
    else()
      message(STATUS "no ${archive}: ${target} is linked as a shared library")
    endif()
  endfunction()
  aios_use_archive(UV libuv_a.a Threads::Threads dl)
  aios_use_archive(JANSSON libjansson.a)
  aios_use_archive(SQLITE libsqlite3.a Threads::Threads dl m)
endif()
