# aios_module(NAME SOURCES … PUBLIC … PRIVATE …): one static library per folder of the tree.
function(aios_module name)
  cmake_parse_arguments(M "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${M_SOURCES})
  target_link_libraries(${name} PUBLIC aios_flags ${M_PUBLIC} PRIVATE ${M_PRIVATE})
endfunction()

# add_unit_test(STEM LIBRARY… [WRAP symbol…]): tests/unit/test_STEM.c as a CMocka program.
# Call it from the folder whose module it tests.  WRAP names what the linker's --wrap redirects,
# beside the allocator, which tests/support/fault.c always wraps.
function(add_unit_test stem)
  if(NOT BUILD_TESTING)
    return()
  endif()
  cmake_parse_arguments(T "" "" "WRAP" ${ARGN})
  set(exe test_${stem})
  add_executable(${exe} ${CMAKE_SOURCE_DIR}/tests/unit/test_${stem}.c)
  target_link_libraries(${exe} PRIVATE test_support ${T_UNPARSED_ARGUMENTS} PkgConfig::CMOCKA)
  foreach(symbol malloc calloc realloc reallocarray strdup strndup ${T_WRAP})
    target_link_options(${exe} PRIVATE -Wl,--wrap=${symbol})
  endforeach()
  set_target_properties(${exe} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME unit.${stem} COMMAND ${exe})
  set_tests_properties(unit.${stem} PROPERTIES LABELS unit TIMEOUT 300 SKIP_RETURN_CODE 77)
endfunction()

# add_fuzz_target(STEM LIBRARY…): tests/fuzz/fuzz_STEM.c, with its seeds in tests/fuzz/STEM/.
# With AIOS_FUZZ it links libFuzzer and runs briefly; otherwise it replays the seeds.
function(add_fuzz_target stem)
  if(NOT BUILD_TESTING)
    return()
  endif()
  set(exe fuzz_${stem})
  set(seeds ${CMAKE_SOURCE_DIR}/tests/fuzz/${stem})
  add_executable(${exe} ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_${stem}.c)
  target_link_libraries(${exe} PRIVATE ${ARGN} aios_flags)
  set_target_properties(${exe} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(AIOS_FUZZ)
    target_compile_options(${exe} PRIVATE -fsanitize=fuzzer)
    target_link_options(${exe} PRIVATE -fsanitize=fuzzer)
    set(work ${CMAKE_BINARY_DIR}/corpus/${stem})
    file(MAKE_DIRECTORY ${work})
    set(dictionary)
    if(EXISTS ${seeds}.dict)
      set(dictionary -dict=${seeds}.dict)
    endif()
    add_test(NAME fuzz.${stem}
      COMMAND ${exe} -max_total_time=20 -timeout=10 ${dictionary} ${work} ${seeds})
  else()
    target_sources(${exe} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
    add_test(NAME fuzz.${stem} COMMAND ${exe} ${seeds})
  endif()
  set_tests_properties(fuzz.${stem} PROPERTIES LABELS fuzz TIMEOUT 600)
endfunction()

# To be called at the end of a folder of tests.  Where several tests run at once, those of virtual
# machines run one after another, and begin first: there are many of them, each keeps a processor
# busy, and none is slowed by the next one's.
function(one_machine_at_a_time)
  get_property(tests DIRECTORY PROPERTY TESTS)
  foreach(test ${tests})
    get_test_property(${test} LABELS labels)
    if("vm" IN_LIST labels)
      set_tests_properties(${test} PROPERTIES RESOURCE_LOCK machine COST 1000)
    endif()
  endforeach()
endfunction()
