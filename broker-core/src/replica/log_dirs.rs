//! DescribeLogDirs: what lies in which log directory.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use wire::ErrorCode;
use wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use wire::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::ReplicaManager;
use super::partition::Partition;
use crate::ctx::Ctx;
use crate::net::RequestToken;

impl ReplicaManager {
    /// Answers how large the logs of this broker are. The core does not know the size of the volume: -1, as for
    /// versions that did not tell it.
    pub fn handle_describe_log_dirs(
        &mut self,
        ctx: &mut Ctx<'_>,
        token: RequestToken,
        request: &DescribeLogDirsRequest<'_>,
    ) {
        let asked = |p: &Partition| match &request.topics {
            None => true,
            Some(topics) => topics.iter().any(|t| *t.topic == *p.topic && t.partitions.contains(&p.index)),
        };
        let mut response = DescribeLogDirsResponse::default();
        for (at, path, online) in self.log_dirs() {
            let mut result = DescribeLogDirsResult {
                log_dir: Cow::Owned(alloc::format!("/{path}")),
                ..DescribeLogDirsResult::default()
            };
            if !online {
                result.error_code = ErrorCode::KAFKA_STORAGE_ERROR.0;
                response.results.push(result);
                continue;
            }
            let mut here: Vec<&Partition> = (self.table.iter().map(|(_, p)| p))
                .filter(|p| p.dir == at && p.log.is_some() && asked(p))
                .collect();
            here.sort_by(|a, b| (&a.topic, a.index).cmp(&(&b.topic, b.index)));
            for p in here {
                let log = p.log();
                let one = DescribeLogDirsPartition {
                    partition_index: p.index,
                    partition_size: log.size_bytes() as i64,
                    offset_lag: (log.high_watermark() - log.log_end_offset()).max(0),
                    is_future_key: false,
                };
                if result.topics.last().is_none_or(|t| *t.name != *p.topic) {
                    result
                        .topics
                        .push(DescribeLogDirsTopic { name: Cow::Borrowed(&p.topic), ..Default::default() });
                }
                result.topics.last_mut().expect("one was pushed").partitions.push(one);
            }
            response.results.push(result);
        }
        ctx.net.respond(ctx.out, token, &response);
    }
}
