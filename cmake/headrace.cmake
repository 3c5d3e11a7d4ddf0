# SPDX-License-Identifier: Apache-2.0
# How a layer, a program and a test of headrace are declared.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

include(CheckCCompilerFlag)

option(HEADRACE_WERROR "warnings are errors" OFF)
set(HEADRACE_SANITIZE "" CACHE STRING "sanitizers for -fsanitize=, e.g. address,undefined")

option(HEADRACE_MUTANTS "seeded faults for ./dev prove mutants; never in a build for use" OFF)

add_library(headrace_flags INTERFACE)
if(HEADRACE_MUTANTS)
  target_compile_definitions(headrace_flags INTERFACE HEADRACE_MUTANTS)
endif()
target_include_directories(headrace_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
target_compile_definitions(headrace_flags INTERFACE _GNU_SOURCE
                                                    HEADRACE_VERSION="${PROJECT_VERSION}")
target_compile_options(
  headrace_flags
  INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wformat=2 -Wstrict-prototypes
            -Wmissing-prototypes -Wold-style-definition -Wundef -Wvla -Wswitch-enum
            -Wimplicit-fallthrough -Wcast-qual -Wwrite-strings -fno-common
            -fstack-protector-strong -fPIC)
if(HEADRACE_WERROR)
  target_compile_options(headrace_flags INTERFACE -Werror)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  target_compile_options(headrace_flags INTERFACE -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  target_link_options(headrace_flags INTERFACE -Wl,-z,relro,-z,now)
  # For texts and structs of some tens of bytes gcc puts string instructions (`rep movsq`), which
  # take longer to begin than to copy: a tenth of the time of a Kafka record. clang does not, and
  # does not know these options (tests/tidy/clang_tidy.py and .clangd leave them out).
  set(few -mmemcpy-strategy=unrolled_loop:32:noalign,libcall:-1:noalign
          -mmemset-strategy=unrolled_loop:256:noalign,libcall:-1:noalign)
  check_c_compiler_flag("${few}" HEADRACE_HAS_STRATEGY)
  if(HEADRACE_HAS_STRATEGY)
    target_compile_options(headrace_flags INTERFACE ${few})
  endif()
endif()
if(HEADRACE_SANITIZE)
  add_compile_options(-fsanitize=${HEADRACE_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${HEADRACE_SANITIZE})
endif()

# The name under which a program would ask for a shared library: "librdkafka.so.1".
function(headrace_soname file out)
  execute_process(COMMAND ${CMAKE_OBJDUMP} -p ${file} OUTPUT_VARIABLE head ERROR_QUIET)
  if(NOT head MATCHES "SONAME +([^ \n]+)")
    message(FATAL_ERROR "${file} has no SONAME: is it a shared library?")
  endif()
  set(${out} ${CMAKE_MATCH_1} PARENT_SCOPE)
endfunction()

# headrace_layer(NAME SOURCES a.c b.c USES core broker PKG sqlite3 libuv LOADS rdkafka)
# LOADS: packages of which only the headers are used here. The library is loaded when it is needed
# (core/library.h), by its HR_RDKAFKA_SONAME.
function(headrace_layer name)
  cmake_parse_arguments(L "" "" "SOURCES;USES;PKG;LOADS" ${ARGN})
  add_library(headrace_${name} STATIC ${L_SOURCES})
  target_link_libraries(headrace_${name} PUBLIC headrace_flags Threads::Threads)
  foreach(layer IN LISTS L_USES)
    target_link_libraries(headrace_${name} PUBLIC headrace_${layer})
  endforeach()
  foreach(package IN LISTS L_PKG)
    string(MAKE_C_IDENTIFIER ${package} id)
    if(NOT TARGET PkgConfig::${id})
      pkg_check_modules(${id} REQUIRED IMPORTED_TARGET GLOBAL ${package})
    endif()
    target_link_libraries(headrace_${name} PUBLIC PkgConfig::${id})
  endforeach()
  foreach(package IN LISTS L_LOADS)
    pkg_check_modules(${package} REQUIRED IMPORTED_TARGET GLOBAL ${package})
    list(GET ${package}_LINK_LIBRARIES 0 file)
    headrace_soname(${file} soname)
    string(REGEX REPLACE "^lib" "" id ${package})
    string(MAKE_C_IDENTIFIER ${id} id)
    string(TOUPPER ${id} id)
    target_include_directories(headrace_${name} SYSTEM PRIVATE ${${package}_INCLUDE_DIRS})
    target_compile_definitions(headrace_${name} PRIVATE HR_${id}_SONAME="${soname}")
  endforeach()
endfunction()

# headrace_test(NAME SOURCES test_x.c USES core [LABELS unit]): one cmocka program, one ctest entry.
function(headrace_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;USES;LABELS;ARGS;ENVIRONMENT" ${ARGN})
  if(NOT TARGET PkgConfig::cmocka)
    pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET GLOBAL cmocka)
  endif()
  add_executable(test_${name} ${T_SOURCES})
  target_link_libraries(test_${name} PRIVATE headrace_flags PkgConfig::cmocka)
  foreach(layer IN LISTS T_USES)
    target_link_libraries(test_${name} PRIVATE headrace_${layer})
  endforeach()
  add_test(NAME ${name} COMMAND test_${name} ${T_ARGS})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 300)
  endif()
  if(NOT T_LABELS)
    set(T_LABELS unit)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}" ENVIRONMENT
                                                              "${T_ENVIRONMENT}")
endfunction()
