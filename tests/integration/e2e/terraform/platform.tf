# What else of the AWS provider is served: networks, roles, secrets, schedules, alarms, and a service of Fargate.

data "aws_caller_identity" "me" {}
data "aws_region" "here" {}
data "aws_partition" "here" {}
data "aws_availability_zones" "here" {}

data "aws_vpc" "default" {
  default = true
}

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
}

data "aws_subnet" "first" {
  id = data.aws_subnets.default.ids[0]
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "execution"
  assume_role_policy = data.aws_iam_policy_document.trust.json
  description        = "release ${var.release}"
  tags               = local.tags
}

resource "aws_iam_role_policy" "own" {
  name = "own"
  role = aws_iam_role.execution.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = ["logs:*"], Resource = "*", Sid = "r${var.release}" }]
  })
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

resource "aws_security_group" "web" {
  name        = "web"
  description = "the page"
  vpc_id      = data.aws_vpc.default.id
  tags        = merge(local.tags, { Name = "web" })
  ingress {
    from_port   = 80
    to_port     = 79 + var.release
    protocol    = "tcp"
    cidr_blocks = ["0.0.0.0/0"]
    description = "page"
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
}

resource "aws_security_group" "db" {
  name   = "db"
  vpc_id = data.aws_vpc.default.id
}

resource "aws_vpc_security_group_ingress_rule" "db" {
  security_group_id            = aws_security_group.db.id
  referenced_security_group_id = aws_security_group.web.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5431 + var.release
  description                  = "release ${var.release}"
  tags                         = local.tags
}

resource "aws_vpc_security_group_egress_rule" "db" {
  security_group_id = aws_security_group.db.id
  cidr_ipv4         = "10.0.0.0/8"
  ip_protocol       = "-1"
}

resource "aws_security_group_rule" "db" {
  security_group_id = aws_security_group.db.id
  type              = "ingress"
  protocol          = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_blocks       = ["10.0.0.0/8"]
}

resource "aws_secretsmanager_secret" "db" {
  name                    = "shop/db"
  description             = "release ${var.release}"
  recovery_window_in_days = 0
  tags                    = local.tags
}

resource "aws_secretsmanager_secret_version" "db" {
  secret_id     = aws_secretsmanager_secret.db.id
  secret_string = jsonencode({ password = "secret-${var.release}" })
}

resource "aws_ssm_parameter" "db" {
  name        = "/shop/db"
  type        = "SecureString"
  value       = "value-${var.release}"
  description = "release ${var.release}"
  tags        = local.tags
}

resource "aws_ssm_parameter" "plain" {
  name  = "/shop/plain"
  type  = "String"
  value = "value"
}

data "aws_ssm_parameter" "plain" {
  name = aws_ssm_parameter.plain.name
}

data "aws_secretsmanager_secret_version" "db" {
  secret_id  = aws_secretsmanager_secret.db.id
  depends_on = [aws_secretsmanager_secret_version.db]
}

resource "aws_ecs_task_definition" "page" {
  family                   = "page"
  network_mode             = "awsvpc"
  requires_compatibilities = ["FARGATE"]
  cpu                      = 256
  memory                   = 512
  execution_role_arn       = aws_iam_role.execution.arn
  tags                     = local.tags
  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64"
  }
  volume {
    name = "scratch"
  }
  container_definitions = jsonencode([{
    name        = "web"
    image       = var.image
    essential   = true
    command     = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]
    environment = [{ name = "RELEASE", value = tostring(var.release) }, { name = "A", value = "b" }]
    secrets = [
      { name = "DB", valueFrom = "${aws_secretsmanager_secret.db.arn}:password::" },
      { name = "PARAMETER", valueFrom = aws_ssm_parameter.db.arn },
    ]
    portMappings = [{ containerPort = 80, name = "http", appProtocol = "http" }]
    mountPoints  = [{ sourceVolume = "scratch", containerPath = "/scratch" }]
    healthCheck  = { command = ["CMD-SHELL", "true"], interval = 5 }
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.web.name
        awslogs-region        = data.aws_region.here.name
        awslogs-stream-prefix = "web"
      }
    }
  }])
}

resource "aws_ecs_service" "page" {
  name                               = "page"
  cluster                            = aws_ecs_cluster.shop.id
  task_definition                    = aws_ecs_task_definition.page.arn
  desired_count                      = 1
  wait_for_steady_state              = true
  propagate_tags                     = "SERVICE"
  enable_ecs_managed_tags            = true
  deployment_minimum_healthy_percent = 50
  capacity_provider_strategy {
    capacity_provider = "FARGATE"
    weight            = 1
  }
  network_configuration {
    subnets          = data.aws_subnets.default.ids
    security_groups  = [aws_security_group.web.id]
    assign_public_ip = true
  }
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  depends_on = [aws_ecs_cluster_capacity_providers.shop, aws_iam_role_policy.own, aws_iam_role_policy_attachment.execution, aws_secretsmanager_secret_version.db]
}

resource "aws_scheduler_schedule_group" "jobs" {
  name = "jobs"
  tags = local.tags
}

resource "aws_scheduler_schedule" "nightly" {
  name                         = "nightly"
  group_name                   = aws_scheduler_schedule_group.jobs.name
  description                  = "release ${var.release}"
  schedule_expression          = "cron(0 ${var.release} * * ? *)"
  schedule_expression_timezone = "Europe/Berlin"
  flexible_time_window {
    mode = "OFF"
  }
  target {
    arn      = aws_ecs_cluster.shop.arn
    role_arn = aws_iam_role.execution.arn
    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.page.arn
      launch_type         = "FARGATE"
      task_count          = 1
      network_configuration {
        subnets         = data.aws_subnets.default.ids
        security_groups = [aws_security_group.web.id]
      }
    }
    retry_policy {
      maximum_retry_attempts = 3
    }
  }
}

resource "aws_cloudwatch_event_rule" "hourly" {
  name                = "hourly"
  description         = "release ${var.release}"
  schedule_expression = "rate(${1 + var.release} hours)"
  state               = "DISABLED"
  tags                = local.tags
}

resource "aws_cloudwatch_event_target" "hourly" {
  rule      = aws_cloudwatch_event_rule.hourly.name
  target_id = "job"
  arn       = aws_ecs_cluster.shop.arn
  role_arn  = aws_iam_role.execution.arn
  ecs_target {
    task_definition_arn = aws_ecs_task_definition.page.arn
    launch_type         = "FARGATE"
    task_count          = 1
    network_configuration {
      subnets = data.aws_subnets.default.ids
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "cpu" {
  alarm_name          = "cpu"
  comparison_operator = "GreaterThanThreshold"
  evaluation_periods  = var.release
  metric_name         = "CPUUtilization"
  namespace           = "AWS/ECS"
  period              = 60
  statistic           = "Average"
  threshold           = 80
  dimensions = {
    ClusterName = aws_ecs_cluster.shop.name
    ServiceName = "page"
  }
}
