//! The routing information bases: table, decision, update groups, RT-constrain.
